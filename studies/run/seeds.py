"""Seeds added to a finished study until an interval is narrow enough: Stein's two-stage rule over the run's seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from studies.datasets import Dataset
from studies.plan.settings import StudySettings
from studies.run.executor import Executor
from studies.run.runner import Outcome, run_study
from studies.store import files
from studies.store.cells import FACTOR_NAMES, Cell
from studies.store.folder import RunFolder

MAX_SEEDS = 100
"""Where `--seeds-until` gives up asking for more."""


def check_sequential(settings: StudySettings, cells: Sequence[Cell]) -> None:
    objectives = {cell.objective for cell in cells}
    if len(objectives) != 2 or settings.seeds < 2:
        raise ValueError(
            "--seeds-until narrows the difference of two objectives from 2 or more first seeds, "
            f"got {len(objectives)} objectives and {settings.seeds} seeds"
        )


def add_seeds(
    study: str,
    settings: StudySettings,
    make_cells: Callable[[StudySettings], list[Cell]],
    argv: Sequence[str],
    dataset: Dataset,
    executor: Executor | None = None,
) -> tuple[Outcome, str]:
    """Runs the seeds that Stein's rule asks for beyond the first; returns the outcome and the interval in words.

    The number depends on the first seeds alone, so the interval keeps its coverage, and so does a continued study: how
    many these were is recorded with the run, and holds for whatever command goes on with it.
    """
    from studies.statistics import sequential_interval, stein_seeds

    assert settings.seeds_until is not None
    first = files.first_stage(settings.out) or settings.seeds
    asked = stein_seeds(bound_differences(settings)[:first], settings.seeds_until)
    total = max(settings.seeds, min(asked, MAX_SEEDS))
    files.write_json(RunFolder(settings.out).sequential, {"first_stage": first, "half_width": settings.seeds_until})
    if total > settings.seeds:
        print(
            f"{first} seeds ask for {asked} in all to reach ± {settings.seeds_until} bits/dim; running {total}",
            flush=True,
        )
    more = settings.replace(seeds=total)
    outcome = run_study(study, more, make_cells(more), argv, dataset, executor)
    interval = sequential_interval(bound_differences(more), first=first)
    names = " minus ".join(sorted({cell.objective for cell in make_cells(settings)}, reverse=True))
    return outcome, f"bound of {names}: {interval} bits/dim (95 %, {total} seeds, Stein's two-stage rule)\n"


def bound_differences(settings: StudySettings) -> list[float]:
    """The difference of the two objectives' bounds by seed, averaged over all else, in bits per dim."""
    import pandas as pd

    from studies.statistics import paired_differences
    from studies.store.reading import with_later_factors

    results = with_later_factors(pd.read_csv(RunFolder(settings.out).results))
    second, first = sorted(results["objective"].unique())
    frame = results.loc[results["metric"] == "bound", [*FACTOR_NAMES, "metric", "value"]]
    return list(paired_differences(frame, "objective", first, second, metric="bound").sort_index())
