"""Time to verdict: seconds of computing until two objectives differ by D ± so much, in the bound or in their samples.

Ours, and the same study done the usual way: a peer's training step, one full sweep over t as the bound, chains of all
T steps as samples, t drawn uniformly, and seeds that share nothing between the objectives. Both are sums of measured
parts times counts; the factor between them is split over training, bound, samples and seeds by Shapley's rule on its
logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import pandas as pd

from studies.statistics import seeds_needed, unpaired_seeds_needed
from studies.store.reading import IN_RECIPE, with_later_factors

BOUND_HALF_WIDTH, SAMPLES_SHARE = 0.02, 0.1
"""Of the bound in bits/dim, and of the Fréchet distance as a share of the better objective's."""
PARTS = ("train", "bound", "sample", "seeds")


@dataclass(frozen=True)
class Way:
    """Seconds of each part of one cell, and how many seeds of two objectives it takes."""

    train: float
    bound: float
    sample: float
    seeds: float

    @property
    def seconds(self) -> float:
        return 2 * self.seeds * (self.train + self.bound + self.sample)


@dataclass(frozen=True)
class Question:
    """Two objectives' difference in `metric`, of samples by `sampler` where it is one of samples, to ± `half_width`."""

    metric: str
    half_width: float
    unit: str = ""
    sampler: str | None = None


@dataclass(frozen=True)
class Spread:
    """The difference of two objectives where training drew t by `timesteps`.

    Its mean, its standard deviation from seed to seed, in pairs and not, and the seeds that each needs.
    """

    timesteps: str
    difference: float
    paired_sd: float
    unpaired_sd: float
    paired_seeds: float
    unpaired_seeds: float


def questions(results: pd.DataFrame, sampler: str) -> list[Question]:
    """What a run's rows can be asked: about the bound, and about samples where they were scored.

    The second is the Fréchet distance of samples by `sampler`, where two seeds or more of both objectives have one.
    """
    bound = Question("bound", BOUND_HALF_WIDTH, "bits/dim")
    samples = Question("frechet", math.nan, sampler=sampler)
    scored = _asked(results, samples).groupby("objective")
    if len(scored) < 2 or scored["seed"].nunique().min() < 2:
        return [bound]
    return [bound, replace(samples, half_width=SAMPLES_SHARE * float(scored["value"].mean().min()))]


def spreads(results: pd.DataFrame, question: Question) -> list[Spread]:
    """A finished run's spreads, one for every way of drawing t, in the order of the rows.

    `results`: rows of results.csv of two objectives. Backends are averaged. ValueError for other runs.
    """
    asked = with_later_factors(_asked(results, question))
    held = [name for name in IN_RECIPE if name in asked and name not in ("objective", "timesteps")]
    several = [name for name in held if asked[name].nunique() > 1]
    if several:
        raise ValueError(
            f"a verdict is between 2 objectives that differ in nothing else, got several of {', '.join(several)}; "
            "give --run another folder"
        )
    by_way = asked.groupby("timesteps", sort=False)
    return [_spread(str(how), part, question.half_width) for how, part in by_way]


def _asked(results: pd.DataFrame, question: Question) -> pd.DataFrame:
    asked = results[results["metric"] == question.metric]
    return asked if question.sampler is None else asked[asked["sampler"] == question.sampler]


def _spread(timesteps: str, values: pd.DataFrame, half_width: float) -> Spread:
    objectives = sorted(values["objective"].unique())
    if len(objectives) != 2 or values["seed"].nunique() < 2:
        raise ValueError(
            f"a verdict is between 2 objectives with at least 2 seeds, got {len(objectives)} objectives and "
            f"{values['seed'].nunique()} seeds; give --run another folder"
        )
    table = values.pivot_table(index="seed", columns="objective", values="value", aggfunc="mean").dropna()
    first, second = (table[name].to_numpy() for name in objectives)
    differences = second - first
    return Spread(
        timesteps,
        difference=float(differences.mean()),
        paired_sd=float(differences.std(ddof=1)),
        unpaired_sd=math.sqrt(np.var(first, ddof=1) + np.var(second, ddof=1)),
        paired_seeds=seeds_needed(differences, half_width),
        unpaired_seeds=unpaired_seeds_needed(first, second, half_width),
    )


def chosen(spreads: Sequence[Spread]) -> tuple[Spread, Spread]:
    """(usual, ours): t drawn uniformly, or the run's only way; and the way that needs the fewest seeds in pairs."""
    usual = next((spread for spread in spreads if spread.timesteps == "uniform"), spreads[0])
    return usual, min(spreads, key=lambda spread: spread.paired_seeds)


def shares(usual: Way, ours: Way) -> dict[str, float]:
    """The factor each part contributes: their product is usual.seconds / ours.seconds.

    Shapley: the logarithm's change when a part goes from the usual way to ours, averaged over all orders of changing.
    """
    total = dict.fromkeys(PARTS, 0.0)
    orders = list(permutations(PARTS))
    for order in orders:
        at = usual
        for factor in order:
            changed = replace(at, **{factor: getattr(ours, factor)})
            total[factor] += math.log(at.seconds / changed.seconds) / len(orders)
            at = changed
    return {factor: math.exp(value) for factor, value in total.items()}


@dataclass(frozen=True)
class Counts:
    """What one cell of a study asks for."""

    train_steps: int
    test_examples: int
    bound_evaluations: int
    samples: int
    sample_evaluations: int
    num_steps: int


Parts = Mapping[str, float]
"""Seconds a unit of the blocks train, network, bound and sample."""


def ways(counts: Counts, theirs: Parts, ours: Parts, batch: int, spreads: Sequence[Spread]) -> tuple[Way, Way]:
    """(usual, ours), from the parts of a peer and of ours; evaluations are of `batch` examples.

    The usual bound is that of the peer's bare network, which has no bound of its own.
    """
    sweep = counts.num_steps * counts.test_examples / batch
    chains = counts.samples / batch
    usual_spread, our_spread = chosen(spreads)
    return (
        Way(
            train=counts.train_steps * theirs["train"],
            bound=sweep * theirs["network"],
            sample=chains * counts.num_steps * theirs["sample"],
            seeds=usual_spread.unpaired_seeds,
        ),
        Way(
            train=counts.train_steps * ours["train"],
            bound=counts.bound_evaluations * counts.test_examples / batch * ours["bound"],
            sample=chains * counts.sample_evaluations * ours["sample"],
            seeds=our_spread.paired_seeds,
        ),
    )


def table(usual: Way, ours: Way) -> list[list[str]]:
    """Both ways part by part, and the factor of each, for printing."""
    titles: Sequence[tuple[str, str]] = (
        ("train", "training, s a cell"),
        ("bound", "bound, s a cell"),
        ("sample", "samples, s a cell"),
        ("seeds", "seeds an objective"),
    )
    factors = shares(usual, ours)
    rows = [["part", "", "usual way", "ours", "share of the factor"]]
    for name, title in titles:
        a, b = getattr(usual, name), getattr(ours, name)
        digits = 0 if name == "seeds" else 1
        rows.append([title, "", f"{a:,.{digits}f}", f"{b:,.{digits}f}", f"× {factors[name]:.2f}"])  # noqa: RUF001
    factor = usual.seconds / ours.seconds
    rows.append(["to the verdict, s", "", f"{usual.seconds:,.0f}", f"{ours.seconds:,.0f}", f"× {factor:.1f}"])  # noqa: RUF001
    return rows
