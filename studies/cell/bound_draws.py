"""Which draws the evaluation of a bound makes, in an order fixed by the seed: for each, an example and a step t.

The steps are cut into strata (`core.strata`), and each stratum has its own endless list of draws. A budget only says
how far down each list to go, so two models see the same draws as far as their budgets agree. The noise of a draw is not
planned here; it comes from one stream a stratum, in the order of the list.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.strata import Strata
from studies.cell.draws import generator

PILOT, PILOT_OWN = 4, 32
"""Draws of the pilot in each stratum: pairs of an example with fresh noise, which tell noise from example."""
OWN = 1
"""The first stratum, t = 1, is like no neighbour: its pilot is larger, and its mean is not made from it."""
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, eq=False)
class PlannedDraws:
    """Draws (M,): the stratum of each, its place in that stratum's list, and the example and step t that it takes."""

    stratum: NDArray[np.int64]
    order: NDArray[np.int64]
    example: NDArray[np.int64]
    t: NDArray[np.int64]

    @classmethod
    def none(cls) -> PlannedDraws:
        return cls(*(np.empty(0, np.int64) for _ in range(4)))

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, chosen: slice | NDArray[np.bool_]) -> PlannedDraws:
        return PlannedDraws(self.stratum[chosen], self.order[chosen], self.example[chosen], self.t[chosen])

    def followed_by(self, others: PlannedDraws) -> PlannedDraws:
        return PlannedDraws(
            stratum=np.append(self.stratum, others.stratum),
            order=np.append(self.order, others.order),
            example=np.append(self.example, others.example),
            t=np.append(self.t, others.t),
        )


@dataclass(frozen=True, eq=False)
class DrawPlan:
    """The lists of draws of one seed: `pilot` (H,) of each stratum's come first, in pairs of one example and step.

    The first `own` strata are like no neighbour. `offset` (H,) in [0, 1): where in a stratum its steps begin.
    """

    seed: int
    num_examples: int
    strata: Strata
    own: int
    pilot: NDArray[np.int64]
    offset: NDArray[np.float64]

    @property
    def least(self) -> NDArray[np.int64]:
        """The least number of draws, (H,), that an estimate is made from; pilots that it may not use come on top.

        Of the first `own` strata as many again: a pilot that met little scatter by chance would leave them a handful,
        from which neither a mean nor its error bar could be told.
        """
        return np.where(np.arange(len(self.strata)) < self.own, 2 * self.pilot, self.pilot)

    def part(self, draws: PlannedDraws) -> NDArray[np.int64]:
        """Which draws of a stratum share what is learned from the others, (M,): 0 and 1, or 2 and 3 for its pilot only.

        Draws of one pair are in different ones.
        """
        return draws.order % 2 + 2 * ~self.is_estimated_from(draws)

    @property
    def middle(self) -> NDArray[np.int64]:
        """The step in the middle of each stratum, (H,)."""
        return (self.strata.first + self.strata.last) // 2

    def draws_between(self, drawn: NDArray[np.int64], counts: NDArray[np.int64]) -> PlannedDraws:
        """The draws from place drawn[h] up to counts[h] of each stratum h; (H,) each, counts >= drawn."""
        stratum = np.repeat(np.arange(len(counts)), counts - drawn)
        order = np.concatenate([np.arange(first, end) for first, end in zip(drawn, counts, strict=True)])
        pilot = self.pilot[stratum]
        position = np.where(order < pilot, order // 2, order - pilot // 2)
        example = np.concatenate([self._examples(int(h), position[stratum == h]) for h in np.unique(stratum)])
        # Steps of golden section fill a stratum evenly, however far its list is read.
        inside = np.mod(self.offset[stratum] + position * GOLDEN, 1.0) * self.strata.size[stratum]
        return PlannedDraws(stratum, order, example, self.strata.first[stratum] + inside.astype(np.int64))

    def _examples(self, h: int, position: NDArray[np.int64]) -> NDArray[np.int64]:
        """The examples at consecutive positions of the stratum's order: one shuffle of the test set after another."""
        first, last = position[0] // self.num_examples, position[-1] // self.num_examples
        shuffles = [
            generator(self.seed, "bound order", h * 10_000 + cycle).permutation(self.num_examples)
            for cycle in range(first, last + 1)
        ]
        return np.concatenate(shuffles)[position - first * self.num_examples]

    def is_estimated_from(self, draws: PlannedDraws) -> NDArray[np.bool_]:
        """Which draws the estimate may use, (M,): all but the pilot of the first `own` strata."""
        return (draws.stratum >= self.own) | (draws.order >= self.pilot[draws.stratum])

    def noise_streams(self) -> list[np.random.Generator]:
        """The stream of each stratum's noise, from its beginning."""
        return [generator(self.seed, "bound noise", h) for h in range(len(self.strata))]


def plan_draws(strata: Strata, num_examples: int, seed: int) -> DrawPlan:
    own = min(OWN, len(strata))
    return DrawPlan(
        seed=seed,
        num_examples=num_examples,
        strata=strata,
        own=own,
        pilot=np.where(np.arange(len(strata)) < own, PILOT_OWN, PILOT),
        offset=generator(seed, "bound steps").random(len(strata)),
    )
