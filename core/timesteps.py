"""Which steps t to spend network evaluations on, and the weight that keeps the estimate unbiased.

Training draws: `uniform`, `stratified` and `importance` turn uniform numbers u in [0, 1) into steps with
weights such that the mean of weight * loss estimates the mean loss over t = 1..T. Evaluation: the bound is a
*sum* over t, most of whose variance sits at a few small t. `Strata` cuts 1..T into runs of neighbouring steps,
and `allocate` spreads a budget over them in proportion to their standard deviation (Neyman 1934), the best any
stratified estimate can do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.schedules import Table


@dataclass(frozen=True, eq=False)
class StepDraw:
    """Steps t (N,) in 1..T, and weights (N,) whose product with the loss has the mean of uniform t."""

    t: NDArray[np.int64]
    weight: Table


def uniform(u: ArrayLike, num_steps: int) -> StepDraw:
    """t uniform on 1..T from independent u (N,)."""
    u = np.asarray(u, np.float64)
    return StepDraw(1 + np.minimum((u * num_steps).astype(np.int64), num_steps - 1), np.ones(u.shape))


def stratified(u: ArrayLike, num_steps: int) -> StepDraw:
    """One t from each of N equal parts of 1..T, in order (low-discrepancy t: Kingma et al. 2021, app. I.1),
    from u (N,).

    Together they cover 1..T evenly. Shuffle them against the examples before use: then each t alone is uniform.
    """
    u = np.asarray(u, np.float64)
    return uniform((np.arange(u.size) + u) / u.size, num_steps)


def importance(u: ArrayLike, probabilities: ArrayLike) -> StepDraw:
    """t with P(t) given by `probabilities` (T,), from u (N,), with weights 1 / (T P(t)) (Nichol & Dhariwal
    2021, eq. 18).
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 1 or not np.all(p > 0) or not np.isclose(p.sum(), 1, rtol=0, atol=1e-6):
        raise ValueError(
            f"probabilities of t (T,) are positive and sum to 1, got shape {p.shape}, a sum of {p.sum()} and "
            f"a least of {np.min(p, initial=np.inf)}"
        )
    p = p / p.sum()  # so that what float32 left over biases no weight
    cumulative = np.cumsum(p)
    t = np.searchsorted(cumulative / cumulative[-1], np.asarray(u, np.float64), side="right")
    t = np.minimum(t, p.size - 1)
    return StepDraw(t + 1, 1 / (p.size * p[t]))


@dataclass(frozen=True, eq=False)
class SecondMoments:
    """The last `history` losses at each t, for importance-sampled training (Nichol & Dhariwal 2021, eq. 18).

    `losses` (T, history), oldest first; `counts` (T,) says how many have been recorded.
    """

    losses: Table
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, num_steps: int, history: int = 10) -> SecondMoments:
        return cls(np.zeros((num_steps, history)), np.zeros(num_steps, np.int64))

    @property
    def warm(self) -> bool:
        """Whether every t has a full history; until then t is uniform."""
        return bool(np.all(self.counts >= self.losses.shape[1]))

    def recorded(self, t: NDArray[np.int64], loss: ArrayLike) -> SecondMoments:
        """The history with losses (N,) at steps t (N,) in 1..T appended; a non-finite loss is an error, it would
        poison every draw.
        """
        t, values = np.asarray(t), np.asarray(loss, np.float64)
        wrong = t[(t < 1) | (t > len(self.counts))]
        if wrong.size:
            raise ValueError(f"steps run from 1 to {len(self.counts)}, got {wrong.flat[0]}; step 0 is the data")
        if not np.all(np.isfinite(values)):
            raise ValueError("a loss recorded for importance sampling is not finite; training has diverged")
        losses, counts = self.losses.copy(), self.counts.copy()
        for step, value in zip(t - 1, values, strict=True):
            losses[step] = np.append(losses[step, 1:], value)
            counts[step] += 1
        return SecondMoments(losses, counts)

    def probabilities(self, uniform_share: float = 1e-3) -> Table:
        """P(t) proportional to sqrt(E[L_t^2]), mixed with a small uniform share so that no t is lost; uniform
        until warm, and where every loss is 0.
        """
        num_steps = len(self.counts)
        root = np.sqrt(np.mean(self.losses**2, axis=1))
        if not self.warm or not root.any():
            return np.full(num_steps, 1 / num_steps)
        return (1 - uniform_share) * root / root.sum() + uniform_share / num_steps


@dataclass(frozen=True, eq=False)
class Strata:
    """Runs of neighbouring steps: stratum h holds first[h]..last[h], both included; together they hold 1..T once."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @property
    def size(self) -> NDArray[np.int64]:
        return self.last - self.first + 1

    def __len__(self) -> int:
        return len(self.first)


def geometric_strata(num_steps: int, growth: float = 0.1) -> Strata:
    """Single steps first, then runs that grow in proportion to t: losses change over t on a logarithmic scale."""
    first, last, t = [], [], 1
    while t <= num_steps:
        end = min(num_steps, t + max(0, int(growth * t)))
        first.append(t)
        last.append(end)
        t = end + 1
    return Strata(np.array(first), np.array(last))


def allocate(scale: ArrayLike, budget: int, minimum: int = 2) -> NDArray[np.int64]:
    """How many of `budget` evaluations each stratum gets: in proportion to `scale` (H,), at least `minimum` each.

    `scale` is a stratum's size times its standard deviation. Fractions are rounded so that the sum is the budget.
    """
    scale = np.asarray(scale, np.float64)
    wrong = scale[~((scale >= 0) & np.isfinite(scale))]
    if wrong.size:
        raise ValueError(f"the scale of a stratum is finite and at least 0, got {wrong[0]}")
    if budget < minimum * scale.size:
        raise ValueError(
            f"{scale.size} strata with at least {minimum} evaluations each need a budget of "
            f"{minimum * scale.size}, got {budget}"
        )
    counts = np.full(scale.size, float(minimum))
    free = np.ones(scale.size, bool)
    while True:
        share = scale * free
        total = share.sum()
        wanted = np.where(
            free,
            (budget - minimum * np.sum(~free)) * (share / total if total > 0 else free / max(free.sum(), 1)),
            minimum,
        )
        low = free & (wanted < minimum)
        if not low.any():
            counts = wanted
            break
        free &= ~low
    whole = np.floor(counts).astype(np.int64)
    most_cut = np.argsort(whole - counts, kind="stable")[: budget - whole.sum()]
    whole[most_cut] += 1
    return whole
