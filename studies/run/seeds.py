"""Seeds added to a finished study until an interval is narrow enough: Stein's two-stage rule over the run's seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from studies.datasets import Dataset
from studies.plan.settings import StudySettings
from studies.run.executor import Executor
from studies.run.runner import Outcome, outcome_of, run_study
from studies.store import files
from studies.store.cells import FACTOR_NAMES, Cell
from studies.store.folder import RunFolder

MAX_SEEDS = 100
"""Where `--seeds-until` gives up asking for more."""


class NoDifferences(ValueError):
    """Seeds lack the difference of their bounds, because a cell diverged or failed."""


def check_sequential(settings: StudySettings, cells: Sequence[Cell]) -> None:
    """ValueError for a study whose seeds have no difference of two objectives, all else being equal."""
    objectives = {cell.objective for cell in cells}
    if len(objectives) != 2 or settings.seeds < 2:
        raise ValueError(
            "--seeds-until narrows the difference of two objectives from 2 or more first seeds, "
            f"got {len(objectives)} objectives and {settings.seeds} seeds"
        )
    known = set(cells)
    alone = [cell for cell in cells if not {replace(cell, objective=name) for name in objectives} <= known]
    if alone:
        raise ValueError(
            f"--seeds-until narrows the difference of two objectives in cells that are alike but for these, "
            f"got {alone[0].id} without its partner; leave out what one of them cannot train"
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
    many these were is recorded with the run, and holds for whatever command goes on with it. Where a cell diverged or
    failed there is no such difference: no seeds are added, or no interval is given, and the words say why.
    """
    from studies.statistics import sequential_interval, stein_seeds

    assert settings.seeds_until is not None
    first = files.first_stage(settings.out) or settings.seeds
    try:
        asked = stein_seeds(bound_differences(settings)[:first], settings.seeds_until)
    except NoDifferences as reason:
        return outcome_of(settings.out, make_cells(settings)), f"no seeds were added: {reason}\n"
    total = max(settings.seeds, min(asked, MAX_SEEDS))
    files.write_json(RunFolder(settings.out).sequential, {"first_stage": first, "half_width": settings.seeds_until})
    if total > settings.seeds:
        print(
            f"{first} seeds ask for {asked} in all to reach ± {settings.seeds_until} bits/dim; running {total}",
            flush=True,
        )
    more = settings.replace(seeds=total)
    outcome = run_study(study, more, make_cells(more), argv, dataset, executor)
    try:
        interval = sequential_interval(bound_differences(more), first=first)
    except NoDifferences as reason:
        return outcome, f"no interval by Stein's two-stage rule: {reason}\n"
    names = " minus ".join(sorted({cell.objective for cell in make_cells(settings)}, reverse=True))
    return outcome, f"bound of {names}: {interval} bits/dim (95 %, {total} seeds, Stein's two-stage rule)\n"


def bound_differences(settings: StudySettings) -> list[float]:
    """The difference of the two objectives' bounds by seed, averaged over all else, in bits per dim.

    NoDifferences where one of the seeds' cells has no finite bound.
    """
    import numpy as np

    from studies.statistics import paired_differences
    from studies.store.reading import with_later_factors

    results = with_later_factors(files.read_rows(RunFolder(settings.out).results))
    second, first = sorted(results["objective"].unique())
    bounds = (results["metric"] == "bound") & np.isfinite(results["value"]) & (results["seed"] < settings.seeds)
    frame = results.loc[bounds, [*FACTOR_NAMES, "metric", "value"]]
    have = set(frame[list(FACTOR_NAMES)].astype(str).itertuples(index=False, name=None))
    begun = [cell for cell in files.asked_cells(settings.out, ()) if cell.seed < settings.seeds]
    lacking = [cell.id for cell in begun if tuple(str(getattr(cell, name)) for name in FACTOR_NAMES) not in have]
    if lacking:
        raise NoDifferences(f"{len(lacking)} of {len(begun)} cells have no finite bound, as {lacking[0]}")
    return list(paired_differences(frame, "objective", first, second, metric="bound").sort_index())
