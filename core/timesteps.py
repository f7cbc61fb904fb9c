"""Which steps t to train on, and the weight that keeps the estimate unbiased.

`uniform`, `stratified` and `importance` turn uniform numbers u in [0, 1) into steps with weights such that the mean of
weight * loss estimates the mean loss over t = 1..T.

Nichol & Dhariwal (2021): https://arxiv.org/abs/2102.09672
Kingma et al. (2021): https://arxiv.org/abs/2107.00630
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
    """One t from each of N equal parts of 1..T, in order, from u (N,).

    The low-discrepancy t of Kingma et al. (2021), app. I.1. Together they cover 1..T evenly. Shuffle them against the
    examples before use: then each t alone is uniform.
    """
    u = np.asarray(u, np.float64)
    return uniform((np.arange(u.size) + u) / u.size, num_steps)


def importance(u: ArrayLike, probabilities: ArrayLike) -> StepDraw:
    """t with P(t) given by `probabilities` (T,), from u (N,), with weights 1 / (T P(t)).

    Nichol & Dhariwal (2021), eq. 18.
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
        """The history with losses (N,) at steps t (N,) in 1..T appended.

        A loss that is not finite is an error: it would spoil every draw that follows.
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
        """P(t) proportional to sqrt(E[L_t^2]), mixed with a small uniform share so that no t is lost.

        It is uniform until every t has a full history, and where every loss is 0.
        """
        num_steps = len(self.counts)
        root = np.sqrt(np.mean(self.losses**2, axis=1))
        if not self.warm or not root.any():
            return np.full(num_steps, 1 / num_steps)
        probabilities: Table = (1 - uniform_share) * root / root.sum() + uniform_share / num_steps
        return probabilities
