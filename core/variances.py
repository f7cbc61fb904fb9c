"""The variance of the reverse step p_theta(x_{t-1} | x_t): fixed to beta or beta tilde, or learned.

Every kind is one formula, log_variance = floor + f(span, value), with two tables and the network's extra
output `value`:

    fixed             floor                                        (the network has no extra output)
    learned_range     floor + span * (value + 1) / 2,  floor = log beta tilde, floor + span = log beta
    learned_diagonal  floor + value,                   floor = log beta tilde

A kind is a value (`Variance`) that says what its tables are and how the network's value enters; whoever has a process
asks it, and never its name.

beta tilde_1 = 0, so the variance at t = 1 is a choice. It moves L_0 by bits, and so it is a setting, `first_variance`,
that reports must show: "next" takes beta tilde_2, the next step's; "beta" takes beta_1. It holds for every fixed
variance, and for the floor of a learned one. With the variances that are fixed to beta tilde or beta, or a range
between them, "next" is what published code scores:

    beta_tilde,    next    "fixedsmall" of Ho et al. (2020) and of Nichol & Dhariwal's code (improved-diffusion)
    beta,          next    "fixedlarge" of the same: beta_t from t = 2 on, and at t = 1 not beta_1
    learned_range, next    learn_sigma of improved-diffusion
    beta,          beta    sigma_t^2 = beta_t at every step, t = 1 too: sec. 3.2 of Ho et al. (2020), not their code

Ho et al. (2020): https://arxiv.org/abs/2006.11239
Nichol & Dhariwal (2021): https://arxiv.org/abs/2102.09672
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.arrays import Array
from core.forward import posterior
from core.schedules import Schedule, Table


@dataclass(frozen=True)
class VarianceEnds:
    """Log variances by step that the kinds are made of, (T,) each, entry t - 1 being step t.

    `log_beta_tilde`: at t = 1, where beta tilde is 0, the variance chosen for that step. `log_fixed_beta`: log beta
    with the same choice at t = 1. `log_ratio`: log(beta tilde /
    beta), which a difference of the two would lose late in the chain; given as 0 at t = 1.
    """

    log_beta_tilde: Array
    log_beta: Array
    log_fixed_beta: Array
    log_ratio: Array


def _zero(ends: VarianceEnds) -> Array:
    return 0 * ends.log_beta_tilde


@dataclass(frozen=True)
class Entry:
    """How the network's extra output enters the log variance, and the way back.

    `added`(span, value) is what comes on top of the floor; `value`(span, added) is the output that would add as much,
    where the span is not 0.
    """

    added: Callable[[Array, Array], Array]
    value: Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Variance:
    """One kind of reverse variance.

    `steps_back`: k of a fixed variance beta_t (1 - alpha_bar_{t - k}) / (1 - alpha_bar_t), the one at t = 1 being
    chosen; None for any other.
    `floor`, `span`: its two tables. `entry`: how the network's extra output enters; None where the variance is fixed.
    `log_ratio`: log(beta tilde / sigma^2) of a fixed variance sigma^2, which is what its KL to the posterior is made
    of.
    """

    name: str
    floor: Callable[[VarianceEnds], Array]
    span: Callable[[VarianceEnds], Array] = _zero
    entry: Entry | None = None
    log_ratio: Callable[[VarianceEnds], Array] = _zero
    steps_back: int | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def is_learned(self) -> bool:
        return self.entry is not None

    def log_variance(self, floor: Array, span: Array, value: Array | None) -> Array:
        """log of the reverse variance from gathered `floor` and `span` and the network's `value` (None where fixed)."""
        return floor if self.entry is None else floor + self.entry.added(span, value)

    def value(self, span: Table, added: Table) -> Table:
        """What the network puts out for a log variance that is `added` above the floor; 0 where it has no say."""
        if self.entry is None:
            return 0 * added
        has_say = self.has_say(span)
        return np.where(has_say, self.entry.value(np.where(has_say, span, 1.0), added), 0.0)

    def has_say(self, span: ArrayLike) -> NDArray[np.bool_]:
        """Whether the network's extra output changes the variance, by step as `span` is."""
        if self.entry is None:
            return np.zeros(np.shape(span), bool)
        return np.asarray(self.entry.added(span, 1.0) != self.entry.added(span, 0.0))


_BETA_TILDE = Variance("beta_tilde", lambda ends: ends.log_beta_tilde, steps_back=1)
_BETA = Variance(
    "beta",
    lambda ends: ends.log_fixed_beta,
    log_ratio=lambda ends: ends.log_ratio,
    steps_back=0,
)
# Nichol & Dhariwal (2021), eq. 15, with value = -1 and 1 at the two ends and, as there, no bound on it.
_LEARNED_RANGE = Variance(
    "learned_range",
    lambda ends: ends.log_beta_tilde,
    span=lambda ends: ends.log_beta - ends.log_beta_tilde,
    entry=Entry(lambda span, value: span * (0.5 * (value + 1.0)), lambda span, added: 2 * added / span - 1),
)
# Ho et al. (2020), Table 2; value 0 is beta tilde.
_LEARNED_DIAGONAL = Variance(
    "learned_diagonal",
    lambda ends: ends.log_beta_tilde,
    entry=Entry(lambda span, value: value, lambda span, added: added),
)

VARIANCES: dict[str, Variance] = {
    variance.name: variance for variance in (_BETA_TILDE, _BETA, _LEARNED_RANGE, _LEARNED_DIAGONAL)
}


def as_variance(variance: str | Variance) -> Variance:
    """The variance of that name in VARIANCES, or the value itself."""
    if isinstance(variance, Variance):
        return variance
    if variance not in VARIANCES:
        raise ValueError(f"unknown variance {variance!r}; known: {', '.join(VARIANCES)}")
    return VARIANCES[variance]


def _first_next(log_beta_tilde: Array, log_beta: Array) -> Array:
    """log beta tilde_2; a chain of one step has no next, and takes log beta_1."""
    return log_beta_tilde[1:2] if log_beta.shape[0] > 1 else log_beta[:1]


FIRST_VARIANCES: dict[str, Callable[[Array, Array], Array]] = {
    "next": _first_next,
    "beta": lambda log_beta_tilde, log_beta: log_beta[:1],
}
"""log variance of the last reverse step, t = 1, where beta tilde is 0: (1,) from log beta tilde and log beta, (T,)
each, of which entry 0 of the first has no meaning.
"""


def log_beta(schedule: Schedule) -> Table:
    """log beta_t, (T + 1,); entry 0 is NaN. The upper end of the reverse variance (Ho et al. 2020, sec. 3.2)."""
    return np.append(np.nan, np.log(schedule.beta[1:]))


def log_beta_tilde(schedule: Schedule, first_variance: str = "next") -> Table:
    """log beta tilde_t, (T + 1,), with entry 1 chosen by `first_variance`; entry 0 is NaN."""
    if first_variance not in FIRST_VARIANCES:
        raise ValueError(f"unknown first_variance {first_variance!r}; known: {', '.join(FIRST_VARIANCES)}")
    table = posterior(schedule, np.arange(1, schedule.num_steps + 1)).log_variance
    first = FIRST_VARIANCES[first_variance](table, log_beta(schedule)[1:])
    return np.concatenate([[np.nan], first, table[1:]])


def log_tilde_ratio(schedule: Schedule) -> Table:
    """log(beta tilde_t / beta_t), (T + 1,), which tends to 0 late in the chain; -inf at t = 1, entry 0 is NaN."""
    before, now = schedule.one_minus_alpha_bar[:-1], schedule.one_minus_alpha_bar[1:]
    noise_ratio = before / now
    gained = schedule.alpha_bar[:-1] * schedule.beta[1:] / now  # 1 - noise_ratio, not formed by subtraction
    with np.errstate(divide="ignore"):
        return np.append(np.nan, np.where(noise_ratio < 0.5, np.log(noise_ratio), np.log1p(-np.minimum(gained, 0.5))))


def variance_ends(schedule: Schedule, first_variance: str = "next") -> VarianceEnds:
    """The ends for a schedule, in float64."""
    tilde, beta = log_beta_tilde(schedule, first_variance)[1:], log_beta(schedule)[1:]
    return VarianceEnds(
        log_beta_tilde=tilde,
        log_beta=beta,
        log_fixed_beta=np.append(tilde[0], beta[1:]),
        log_ratio=np.append(0.0, log_tilde_ratio(schedule)[2:]),
    )
