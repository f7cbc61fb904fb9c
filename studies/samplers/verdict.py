"""How near few network evaluations come to the longest ancestral chain: ratios, a table, and the answer in words.

A ratio is formed within each cell, where both chains start from the same x_T, and averaged (in its log) over the
frameworks of a seed; the seeds carry the interval. The Fréchet distance of a perfect model is its floor, not 0, so
the excess over the floor is said beside every ratio.
"""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from studies.reporting.contrasts import floor
from studies.reporting.names import family_name, name_of, sampler_family, sampler_name, sampler_steps
from studies.reporting.numbers import count, listed, plain
from studies.reporting.view import View
from studies.statistics.intervals import Interval, mean_interval
from studies.store.reading import levels
from studies.store.recipes import Recipe
from studies.store.sampler_chains import Family

METRIC = "frechet"
CLAIMED = (("ddim", 50), ("dpm_solver", 20))
"""What is asked of: samplers and their network evaluations, at every spacing drawn."""
WITHIN = 1.10


@dataclass(frozen=True)
class Ratio:
    """One chain's Fréchet distance over the longest ancestral chain's, for one recipe; means over the cells."""

    recipe: Hashable
    sampler: str
    reference: str
    distance: float
    reference_distance: float
    floor: float
    ratio: Interval

    @property
    def reached(self) -> bool:
        return self.ratio.estimate <= WITHIN

    @property
    def resolved(self) -> bool:
        """Whether the whole interval lies on one side of the limit."""
        return self.ratio.excludes(WITHIN)


def _longest_ancestral(drawn: Sequence[str]) -> str | None:
    ancestral = [name for name in drawn if sampler_family(name) == Family("ancestral")]
    return max(ancestral, key=lambda name: sampler_steps(name) or 0, default=None)


def ratios(view: View) -> list[Ratio]:
    """The chains of CLAIMED that were drawn, against each recipe's longest ancestral chain."""
    return view.once(("ratios of samplers",), lambda: _ratios(view))


def _ratios(view: View) -> list[Ratio]:
    scored = view.of_metric(METRIC)
    answers = []
    for recipe in view.recipes:
        drawn = [str(name) for name in levels(scored[scored["recipe"] == recipe], "sampler")]
        reference = _longest_ancestral(drawn)
        asked = [name for name in drawn if (sampler_family(name).sampler, sampler_steps(name)) in CLAIMED]
        if reference is not None:
            answers += [_ratio(view, recipe, sampler, reference) for sampler in asked]
    return [ratio for ratio in answers if ratio is not None]


def _ratio(view: View, recipe: Recipe, sampler: str, reference: str) -> Ratio | None:
    distances, reference_distances = (
        pd.DataFrame(view.values(METRIC, name).xs(recipe, axis=1, level="recipe")) for name in (sampler, reference)
    )
    # A framework without a finite value is left out, and then every seed that lacks a cell, as in contrasts.contrast.
    by_cell = distances / reference_distances
    by_cell = by_cell.where((by_cell > 0) & np.isfinite(by_cell)).dropna(axis=1, how="all").dropna()
    if by_cell.empty:
        return None
    log_ratio = mean_interval(np.log(by_cell.to_numpy()).mean(axis=1))
    low, estimate, high = np.exp([log_ratio.low, log_ratio.estimate, log_ratio.high])
    floors = view.of_metric(f"{METRIC}_floor")
    least = floor(floors[floors["recipe"] == recipe], METRIC, sampler)
    return Ratio(
        recipe,
        sampler,
        reference,
        float(distances.loc[by_cell.index, by_cell.columns].to_numpy().mean()),
        float(reference_distances.loc[by_cell.index, by_cell.columns].to_numpy().mean()),
        float("nan") if least is None else least,
        Interval(float(estimate), float(low), float(high), log_ratio.confidence, log_ratio.n),
    )


def headline(view: View) -> str:
    """The answer in one sentence: what reaches within 10 % of the longest ancestral chain, and what does not."""
    answers = ratios(view)
    if not answers and view.of_metric(METRIC).empty:
        return "Not answered: no chain's samples have a Fréchet distance"
    if not answers:
        asked = listed([f"{family_name(Family(sampler))} in {steps} steps" for sampler, steps in CLAIMED])
        return (
            f"Not answered: it takes an ancestral chain, and beside it {asked}; draw them with --samplers and --steps"
        )
    reach, miss = ([ratio for ratio in answers if ratio.reached is wanted] for wanted in (True, False))
    references = listed(list(dict.fromkeys(_in_steps(ratio.reference) for ratio in answers)))
    limit = f"within {100 * (WITHIN - 1):.0f} % of the Fréchet distance of {references}"
    several = len({ratio.recipe for ratio in answers}) > 1
    if not miss:
        names = _named(reach, several=False)
        return f"Yes: {listed(names)} {'reaches' if len(names) == 1 else 'reach'} {limit}"
    if not reach:
        names = _named(miss, several=False)
        return f"No: {listed(names)} {'does' if len(names) == 1 else 'do'} not reach {limit}"
    names = _named(reach, several)
    left = f", but not {listed(_named(miss, several))}" if len(miss) < 3 else f"; the other {len(miss)} do not"
    return f"In part: {listed(names)} {'reaches' if len(reach) == 1 else 'reach'} {limit}{left}"


def _by_sampler(answers: Sequence[Ratio]) -> list[list[Ratio]]:
    samplers = dict.fromkeys(ratio.sampler for ratio in answers)
    return [[ratio for ratio in answers if ratio.sampler == sampler] for sampler in samplers]


def _named(answers: Sequence[Ratio], several: bool) -> list[str]:
    """ "DDIM in 50 steps", with the recipes it is true of where there are `several`."""
    return [
        _in_steps(of_sampler[0].sampler)
        + (f" ({listed([name_of(ratio.recipe) for ratio in of_sampler])})" if several else "")
        for of_sampler in _by_sampler(answers)
    ]


def sentences(view: View) -> list[str]:
    """The numbers behind the headline: the references, then a sentence a sampler, and what became of the rest."""
    answers = ratios(view)
    said = [
        _reference_sentence([ratio for ratio in answers if ratio.reference == reference])
        for reference in dict.fromkeys(ratio.reference for ratio in answers)
    ]
    said += [_sampler_sentence(of_sampler) for of_sampler in _by_sampler(answers)]
    broken = view.of_metric("samples_not_finite")
    for name, group in broken.groupby("sampler", sort=False):
        said.append(
            f"{sampler_name(str(name))}: samples of {count(len(group), 'cell')} are not finite, and not scored."
        )
    return said


def _reference_sentence(answers: Sequence[Ratio]) -> str:
    by_recipe = {ratio.recipe: ratio for ratio in answers}
    numbers = [f"{plain(ratio.reference_distance, 3)} ({name_of(recipe)})" for recipe, ratio in by_recipe.items()]
    least = answers[0].floor
    real = f"; real data at the same sample size get {plain(least, 3)}, the floor" if np.isfinite(least) else ""
    return f"{_capital(_in_steps(answers[0].reference))} gets a Fréchet distance of {listed(numbers)}{real}."


def _sampler_sentence(of_sampler: Sequence[Ratio]) -> str:
    """ "DDIM in 50 steps: epsilon MSE 1.04 times that (95 % interval 1.01 to 1.07, 3 seeds), within 10 %; ..."."""
    parts = []
    for answer in of_sampler:
        interval = answer.ratio
        spread = (
            f"95 % interval {plain(interval.low, 3)} to {plain(interval.high, 3)}, {count(interval.n, 'seed')}"
            if np.isfinite(interval.half_width)
            else "one seed, so no interval"
        )
        within = f"{'' if answer.reached else 'not '}within {100 * (WITHIN - 1):.0f} %"
        sure = "" if answer.resolved or interval.n < 2 else " though the interval crosses that limit"
        excess = [distance - answer.floor for distance in (answer.distance, answer.reference_distance)]
        over_floor = (
            f" (over the floor: {' against '.join(plain(e, 3) for e in excess)})" if np.isfinite(excess[0]) else ""
        )
        parts.append(
            f"{name_of(answer.recipe)} {plain(interval.estimate, 3)} times that ({spread}), {within}{sure}{over_floor}"
        )
    return f"{_capital(_in_steps(of_sampler[0].sampler))}: {'; '.join(parts)}."


def _in_steps(sampler: str) -> str:
    """ "DPM-Solver++ (log SNR) in 20 steps"; "ancestral sampling in 1,000 steps"."""
    family = sampler_family(sampler)
    name = "ancestral sampling" if family == Family("ancestral") else family_name(family)
    return f"{name} in {sampler_steps(sampler):,} steps"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


@dataclass(frozen=True)
class Table:
    """Mean distance over cells: a row for each recipe and sampler, a column for each number of steps."""

    steps: list[int]
    rows: list[tuple[Hashable, Family, list[str]]]
    floor: float | None


def table_of(view: View, metric: str = METRIC) -> Table:
    """The metric by sampler and steps; "–" where a chain was not drawn or its samples are not finite."""
    scored = with_chains(view.of_metric(metric))
    steps = sorted(int(n) for n in scored["steps"].unique())
    mean = scored.groupby(["recipe", "family", "steps"], sort=False)["value"].mean()
    body = [
        (
            recipe,
            family,
            [plain(float(mean[recipe, family, n]), 3) if (recipe, family, n) in mean else "–" for n in steps],
        )
        for recipe, family in scored[["recipe", "family"]].drop_duplicates().itertuples(index=False, name=None)
    ]
    floors = view.of_metric(f"{metric}_floor")["value"]
    return Table(steps, body, float(floors.mean()) if floors.notna().any() else None)


def with_chains(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` of samplers with the columns `family` and `steps`, in the order of families drawn."""
    names = [str(name) for name in rows["sampler"]]
    families = pd.Series([sampler_family(name) for name in names], index=rows.index, dtype=object)
    return rows.assign(family=families, steps=[sampler_steps(name) or 0 for name in names])


def table_lines(table: Table) -> Sequence[Sequence[str]]:
    """The table as text, head first."""
    head = ["Fréchet distance", "steps:", *(f"{n:,}" for n in table.steps)]
    body = [[name_of(recipe), family_name(family), *distances] for recipe, family, distances in table.rows]
    least = [] if table.floor is None else [["real data (floor)", "", plain(table.floor, 3)]]
    return [head, *body, *least]
