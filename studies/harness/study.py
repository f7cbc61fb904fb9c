"""What every study script does: say what will happen, run the cells, write the report, print the closing table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from backends.networks import UNetSettings
from core.variances import as_variance
from studies.datasets import Dataset, load_dataset
from studies.harness import compiling, store
from studies.harness.cells import FACTORS, Cell
from studies.harness.costs import cell_seconds
from studies.harness.machine import default_jobs, uses_gpu
from studies.harness.runner import Outcome, run_study
from studies.harness.settings import StudySettings
from studies.harness.store import RESULTS

MAX_SEEDS = 100
"""Where `--seeds-until` gives up asking for more."""


def run_and_report(
    study: str,
    settings: StudySettings,
    make_cells: Callable[[StudySettings], list[Cell]],
    argv: Sequence[str],
    add_to_run: Callable[[Path], str] | None = None,
) -> int:
    """Runs the study and returns the exit status: 0, or 1 where a cell failed.

    `add_to_run` writes what a study has of its own into the run's folder, before the report is made, and returns what
    it has to say on the terminal.
    """
    cells = make_cells(settings)
    settings = settings.replace(backends=tuple(dict.fromkeys(cell.backend for cell in cells)))  # as resolved
    if settings.seeds_until is not None:
        _check_sequential(settings, cells)
    dataset = load_dataset(settings.dataset, settings.test_examples)
    print(announcement(settings, cells, dataset), flush=True)
    outcome = run_study(study, settings, cells, argv, dataset)
    closing = ""
    if settings.seeds_until is not None and not outcome.failed:
        outcome, closing = _add_seeds(study, settings, make_cells, argv, dataset)

    from studies.harness.report import closing_table, write_report  # matplotlib and pandas, only needed now

    if not outcome.finished:
        print(f"no cell finished; the reasons are in {settings.out / 'cells'}")
        return 1
    added = "" if add_to_run is None else add_to_run(settings.out)
    report = write_report(settings.out)
    print(closing_table(settings.out))
    if added:
        print(added)
    for cell_id, reason in outcome.failed.items():
        print(f"failed: {cell_id}: {reason}")
    print(f"{closing}report: {report}")
    return 1 if outcome.failed else 0


def _check_sequential(settings: StudySettings, cells: Sequence[Cell]) -> None:
    objectives = {cell.objective for cell in cells}
    if len(objectives) != 2 or settings.seeds < 2:
        raise ValueError(
            "--seeds-until narrows the difference of two objectives from 2 or more first seeds, "
            f"got {len(objectives)} objectives and {settings.seeds} seeds"
        )


def _add_seeds(
    study: str,
    settings: StudySettings,
    make_cells: Callable[[StudySettings], list[Cell]],
    argv: Sequence[str],
    dataset: Dataset,
) -> tuple[Outcome, str]:
    """Runs the seeds that Stein's rule asks for beyond the first; returns the outcome and the interval in words.

    The number depends on the first seeds alone, so the interval keeps its coverage, and so does a continued study: how
    many these were is recorded with the run, and holds for whatever command goes on with it.
    """
    from studies.harness.statistics import sequential_interval, stein_seeds

    assert settings.seeds_until is not None
    first = store.first_stage(settings.out) or settings.seeds
    asked = stein_seeds(bound_differences(settings)[:first], settings.seeds_until)
    total = max(settings.seeds, min(asked, MAX_SEEDS))
    store.write_json(settings.out / store.SEQUENTIAL, {"first_stage": first, "half_width": settings.seeds_until})
    if total > settings.seeds:
        print(
            f"{first} seeds ask for {asked} in all to reach ± {settings.seeds_until} bits/dim; running {total}",
            flush=True,
        )
    more = settings.replace(seeds=total)
    outcome = run_study(study, more, make_cells(more), argv, dataset)
    interval = sequential_interval(bound_differences(more), first=first)
    names = " minus ".join(sorted({cell.objective for cell in make_cells(settings)}, reverse=True))
    return outcome, f"bound of {names}: {interval} bits/dim (95 %, {total} seeds, Stein's two-stage rule)\n"


def bound_differences(settings: StudySettings) -> list[float]:
    """The difference of the two objectives' bounds by seed, averaged over all else, in bits per dim."""
    import pandas as pd

    from studies.harness.statistics import paired_differences

    results = pd.read_csv(settings.out / RESULTS)
    second, first = sorted(results["objective"].unique())
    frame = results.loc[results["metric"] == "bound", [*FACTORS, "metric", "value"]]
    return list(paired_differences(frame, "objective", first, second, metric="bound").sort_index())


def announcement(settings: StudySettings, cells: Sequence[Cell], dataset: Dataset) -> str:
    """What the study will do, and for U-Nets on a CPU about how long it will take."""
    jobs = settings.jobs or default_jobs(settings.device, settings.threads)
    factors: dict[str, set] = {
        "objectives": {cell.objective for cell in cells},
        "backends": {cell.backend for cell in cells},
        "seeds": {cell.seed for cell in cells},
        "predictions": {cell.prediction for cell in cells},
        "variances": {cell.variance for cell in cells},
        "schedules": {cell.schedule for cell in cells},
        "ways to draw t": {cell.timesteps for cell in cells},
        "precisions": {cell.dtype for cell in cells},
    }
    varied = " x ".join(f"{len(values)} {name}" for name, values in factors.items() if len(values) > 1)
    lines = [
        f"{len(cells)} cells on {settings.dataset}" + (f" ({varied})" if varied else "") + f", {jobs} side by side:",
        f"  {settings.train_steps} steps of batch {settings.batch_size}, T = {settings.num_steps}, "
        f"then the test bound and {settings.samples} samples of each",
        *_compiling(settings, cells, dataset.shape),
        f"  results in {settings.out}; stop at any time, the same command goes on from there",
    ]
    network = settings.network(dataset.shape, learns_variance=False)
    if isinstance(network, UNetSettings) and not uses_gpu(settings.device):
        rounds = -(-len(cells) // jobs)
        minutes = rounds * cell_seconds(network, settings, len(dataset.test)) / 60
        lines.append(f"  about {minutes:,.0f} minutes on CPU cores like those of 2024")
    return "\n".join(lines)


def _compiling(settings: StudySettings, cells: Sequence[Cell], shape: tuple[int, ...]) -> list[str]:
    """A line a backend: whether its cells are compiled."""
    first = {cell.backend: cell for cell in reversed(cells)}
    networks = {name: settings.network(shape, as_variance(cell.variance).is_learned) for name, cell in first.items()}
    return [f"  {compiling.announcement(first[name], networks[name], settings)}" for name in reversed(first)]
