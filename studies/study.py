"""What every study script does: say what will happen, run the cells, write the report, print the closing table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from backends.networks import UNetSettings
from core.variances import as_variance
from studies.datasets import Dataset, load_dataset
from studies.plan import compiling
from studies.plan.costs import cell_seconds
from studies.plan.machine import default_jobs, uses_gpu
from studies.plan.settings import StudySettings
from studies.run.executor import Executor
from studies.run.runner import run_study
from studies.run.seeds import add_seeds, check_sequential
from studies.run.watch import DRAWING
from studies.store.cells import FACTORS, Cell
from studies.store.files import finished_besides
from studies.store.folder import RunFolder


def run_and_report(
    study: str,
    settings: StudySettings,
    make_cells: Callable[[StudySettings], list[Cell]],
    argv: Sequence[str],
    add_to_run: Callable[[Path], str] | None = None,
    executor: Executor | None = None,
) -> int:
    """Runs the study and returns the exit status: 0, or 1 where a cell failed.

    `add_to_run` writes what a study has of its own into the run's folder, before the report is made, and returns what
    it has to say on the terminal. `executor`: where the cells run; None: in processes on this machine.
    """
    cells = make_cells(settings)
    settings = settings.replace(backends=tuple(dict.fromkeys(cell.backend for cell in cells)))  # as resolved
    if settings.seeds_until is not None:
        check_sequential(settings, cells)
    dataset = load_dataset(settings.dataset, settings.test_examples)
    print(announcement(settings, cells, dataset), flush=True)
    outcome = run_study(study, settings, cells, argv, dataset, executor)
    closing = ""
    if settings.seeds_until is not None and not outcome.failed:
        outcome, closing = add_seeds(study, settings, make_cells, argv, dataset, executor)

    from studies.reporting.page import make_report  # matplotlib and pandas, only needed now

    if not outcome.finished:
        print(f"no cell finished; the reasons are in {RunFolder(settings.out).cells}")
        return 1
    added = "" if add_to_run is None else add_to_run(settings.out)
    print(DRAWING, flush=True)
    closing_table, report = make_report(settings.out)
    print(closing_table)
    if added:
        print(added)
    for cell_id, reason in outcome.failed.items():
        print(f"failed: {cell_id}: {reason}")
    print(f"{closing}report: {report}")
    return 1 if outcome.failed else 0


def announcement(settings: StudySettings, cells: Sequence[Cell], dataset: Dataset) -> str:
    """What the study will do, and for U-Nets on a CPU about how long it will take."""
    jobs = settings.jobs or default_jobs(settings.device, settings.threads)
    counts = {factor.plural: len({getattr(cell, factor.name) for cell in cells}) for factor in FACTORS}
    varied = " x ".join(f"{count} {plural}" for plural, count in counts.items() if count > 1)
    lines = [
        f"{len(cells)} cells on {settings.dataset}" + (f" ({varied})" if varied else "") + f", {jobs} side by side:",
        f"  {settings.train_steps} steps of batch {settings.batch_size}, T = {settings.num_steps}, "
        f"then the test bound and {settings.samples} samples of each",
        *_compiling(settings, cells, dataset.shape),
        f"  results in {settings.out}; stop at any time, the same command goes on from there",
    ]
    if earlier := len(finished_besides(settings.out, cells)):
        lines.append(f"  {earlier} more cells of an earlier command are finished there, and stay in results and report")
    network = settings.network(dataset.shape, learns_variance=False)
    if isinstance(network, UNetSettings) and not uses_gpu(settings.device):
        rounds = -(-len(cells) // jobs)
        minutes = rounds * cell_seconds(network, settings, len(dataset.test)) / 60
        lines.append(
            f"  about {minutes:,.0f} minutes on idle CPU cores like those of 2024; the time left that is shown while"
            " cells run is measured on yours"
        )
    return "\n".join(lines)


def _compiling(settings: StudySettings, cells: Sequence[Cell], shape: tuple[int, ...]) -> list[str]:
    """A line a backend: whether its cells are compiled."""
    first = {cell.backend: cell for cell in reversed(cells)}
    networks = {name: settings.network(shape, as_variance(cell.variance).is_learned) for name, cell in first.items()}
    return [f"  {compiling.announcement(first[name], networks[name], settings)}" for name in reversed(first)]
