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

from studies.reporting.contrasts import floor, values
from studies.reporting.names import family_name, name_of, sampler_family, sampler_name, sampler_steps
from studies.reporting.numbers import count, listed, plain
from studies.statistics.intervals import Interval, mean_interval
from studies.store.reading import levels
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


def reference_of(rows: pd.DataFrame) -> str | None:
    """The longest ancestral chain drawn and scored."""
    drawn = [str(name) for name in levels(rows[rows["metric"] == METRIC], "sampler")]
    ancestral = [name for name in drawn if sampler_family(name) == Family("ancestral")]
    return max(ancestral, key=lambda name: sampler_steps(name) or 0, default=None)


def ratios(rows: pd.DataFrame) -> list[Ratio]:
    """The chains of CLAIMED that were drawn, against each recipe's own reference."""
    found = []
    for recipe in levels(rows, "recipe"):
        of_recipe = rows[rows["recipe"] == recipe]
        reference = reference_of(of_recipe)
        for sampler in levels(of_recipe[of_recipe["metric"] == METRIC], "sampler"):
            name = str(sampler)
            if reference is None or (sampler_family(name).sampler, sampler_steps(name)) not in CLAIMED:
                continue
            one = _ratio(of_recipe, recipe, name, reference)
            if one is not None:
                found.append(one)
    return found


def _ratio(rows: pd.DataFrame, recipe: Hashable, sampler: str, reference: str) -> Ratio | None:
    one, other = values(rows, METRIC, sampler), values(rows, METRIC, reference)
    # A framework without a finite value is left out, and then every seed that lacks a cell, as in contrasts.contrast.
    by_cell = (one / other).dropna(axis=1, how="all").dropna()
    if by_cell.empty:
        return None
    log_ratio = mean_interval(np.log(by_cell.to_numpy()).mean(axis=1))
    low, estimate, high = np.exp([log_ratio.low, log_ratio.estimate, log_ratio.high])
    least = floor(rows, METRIC, sampler)
    return Ratio(
        recipe,
        sampler,
        reference,
        float(one.loc[by_cell.index, by_cell.columns].to_numpy().mean()),
        float(other.loc[by_cell.index, by_cell.columns].to_numpy().mean()),
        float("nan") if least is None else least,
        Interval(float(estimate), float(low), float(high), log_ratio.confidence, log_ratio.n),
    )


def headline(rows: pd.DataFrame) -> str:
    """The answer in one sentence: what reaches within 10 % of the longest ancestral chain, and what does not."""
    found = ratios(rows)
    if not found:
        asked = listed([f"{family_name(Family(sampler))} in {steps} steps" for sampler, steps in CLAIMED])
        return (
            f"Not answered: it takes an ancestral chain, and beside it {asked}; draw them with --samplers and --steps"
        )
    reach, miss = ([one for one in found if one.reached is wanted] for wanted in (True, False))
    references = listed(list(dict.fromkeys(_in_steps(one.reference) for one in found)))
    limit = f"within {100 * (WITHIN - 1):.0f} % of the Fréchet distance of {references}"
    several = len({one.recipe for one in found}) > 1
    if not miss:
        names = _named(reach, several=False)
        return f"Yes: {listed(names)} {'reaches' if len(names) == 1 else 'reach'} {limit}"
    if not reach:
        names = _named(miss, several=False)
        return f"No: {listed(names)} {'does' if len(names) == 1 else 'do'} not reach {limit}"
    names = _named(reach, several)
    left = f", but not {listed(_named(miss, several))}" if len(miss) < 3 else f"; the other {len(miss)} do not"
    return f"In part: {listed(names)} {'reaches' if len(reach) == 1 else 'reach'} {limit}{left}"


def _by_sampler(found: Sequence[Ratio]) -> list[list[Ratio]]:
    return [[one for one in found if one.sampler == name] for name in dict.fromkeys(one.sampler for one in found)]


def _named(found: Sequence[Ratio], several: bool) -> list[str]:
    """ "DDIM in 50 steps", with the recipes it is true of where there are `several`."""
    return [
        _in_steps(these[0].sampler) + (f" ({listed([name_of(one.recipe) for one in these])})" if several else "")
        for these in _by_sampler(found)
    ]


def sentences(rows: pd.DataFrame) -> list[str]:
    """The numbers behind the headline: the references, then a sentence a sampler, and what became of the rest."""
    found = ratios(rows)
    said = [
        _reference_sentence([one for one in found if one.reference == reference])
        for reference in dict.fromkeys(one.reference for one in found)
    ]
    said += [_sampler_sentence(these) for these in _by_sampler(found)]
    broken = rows[rows["metric"] == "samples_not_finite"]
    for name, group in broken.groupby("sampler", sort=False):
        said.append(
            f"{sampler_name(str(name))}: samples of {count(len(group), 'cell')} are not finite, and not scored."
        )
    return said


def _reference_sentence(found: Sequence[Ratio]) -> str:
    by_recipe = {one.recipe: one for one in found}
    numbers = [f"{plain(one.reference_distance, 3)} ({name_of(recipe)})" for recipe, one in by_recipe.items()]
    return (
        f"{_capital(_in_steps(found[0].reference))} gets a Fréchet distance of {listed(numbers)}; real data at the"
        f" same sample size get {plain(found[0].floor, 3)}, the floor."
    )


def _sampler_sentence(found: Sequence[Ratio]) -> str:
    """ "DDIM in 50 steps: epsilon MSE 1.04 times that (95 % interval 1.01 to 1.07, 3 seeds), within 10 %; ..."."""
    parts = []
    for one in found:
        interval = one.ratio
        spread = (
            f"95 % interval {plain(interval.low, 3)} to {plain(interval.high, 3)}, {count(interval.n, 'seed')}"
            if np.isfinite(interval.half_width)
            else "one seed, so no interval"
        )
        within = f"{'' if one.reached else 'not '}within {100 * (WITHIN - 1):.0f} %"
        sure = "" if one.resolved or interval.n < 2 else " though the interval crosses that limit"
        excess = f"{plain(one.distance - one.floor, 3)} against {plain(one.reference_distance - one.floor, 3)}"
        parts.append(
            f"{name_of(one.recipe)} {plain(interval.estimate, 3)} times that ({spread}), {within}{sure}"
            f" (over the floor: {excess})"
        )
    return f"{_capital(_in_steps(found[0].sampler))}: {'; '.join(parts)}."


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


def table_of(rows: pd.DataFrame, metric: str = METRIC) -> Table:
    """The metric by sampler and steps; "–" where a chain was not drawn or its samples are not finite."""
    scored = with_chains(rows[rows["metric"] == metric])
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
    floors = rows[rows["metric"] == f"{metric}_floor"]["value"]
    return Table(steps, body, float(floors.mean()) if len(floors) else None)


def with_chains(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` of samplers with the columns `family` and `steps`, in the order of families drawn."""
    names = [str(name) for name in rows["sampler"]]
    return rows.assign(
        family=[sampler_family(name) for name in names], steps=[sampler_steps(name) or 0 for name in names]
    )


def table_lines(table: Table) -> Sequence[Sequence[str]]:
    """The table as text, head first."""
    head = ["Fréchet distance", "steps:", *(f"{n:,}" for n in table.steps)]
    body = [[name_of(recipe), family_name(family), *shown] for recipe, family, shown in table.rows]
    least = [] if table.floor is None else [["real data (floor)", "", plain(table.floor, 3)]]
    return [head, *body, *least]
