"""What every study script does: say what will happen, run the cells, write the report, print the closing table."""

from __future__ import annotations

from collections.abc import Sequence

from studies.harness.cells import Cell
from studies.harness.runner import default_jobs, run_study
from studies.harness.settings import StudySettings

STEPS_PER_SECOND = 28.0
"""Training steps a second of the default U-Net on one CPU thread, for the estimate at the start."""


def run_and_report(study: str, settings: StudySettings, cells: Sequence[Cell], argv: Sequence[str]) -> int:
    """Runs the study and returns the exit status: 0, or 1 where a cell failed."""
    print(announcement(settings, cells), flush=True)
    outcome = run_study(study, settings, cells, argv)

    from studies.harness.report import closing_table, write_report  # matplotlib and pandas, only needed now

    if not outcome.finished:
        print(f"no cell finished; the reasons are in {settings.out / 'cells'}")
        return 1
    report = write_report(settings.out)
    print(closing_table(settings.out))
    for cell_id, reason in outcome.failed.items():
        print(f"failed: {cell_id}: {reason}")
    print(f"report: {report}")
    return 1 if outcome.failed else 0


def announcement(settings: StudySettings, cells: Sequence[Cell]) -> str:
    """What the study will do and about how long it will take."""
    jobs = settings.jobs or default_jobs(settings)
    factors: dict[str, set] = {
        "objectives": {cell.objective for cell in cells},
        "backends": {cell.backend for cell in cells},
        "seeds": {cell.seed for cell in cells},
        "predictions": {cell.prediction for cell in cells},
        "variances": {cell.variance for cell in cells},
        "schedules": {cell.schedule for cell in cells},
    }
    varied = " x ".join(f"{len(values)} {name}" for name, values in factors.items() if len(values) > 1)
    lines = [
        f"{len(cells)} cells on {settings.dataset}" + (f" ({varied})" if varied else "") + f", {jobs} side by side:",
        f"  {settings.train_steps} steps of batch {settings.batch_size}, T = {settings.num_steps}, "
        f"then the test bound and {settings.samples} samples of each",
        f"  results in {settings.out}; stop at any time, the same command goes on from there",
    ]
    if settings.device in ("auto", "cpu") and settings.widths == (16, 32) and settings.dataset == "digits":
        rounds = -(-len(cells) // jobs)
        minutes = rounds * (settings.train_steps / STEPS_PER_SECOND + 35) / 60
        lines.append(f"  about {minutes:.0f} minutes on CPU cores like those of 2024")
    return "\n".join(lines)
