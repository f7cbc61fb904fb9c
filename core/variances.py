"""The variance of the reverse step p_theta(x_{t-1} | x_t): fixed to beta or beta tilde, or learned.

Every kind is one formula, log_variance = floor + span * f(value), with two tables and the network's extra
output `value`:

    fixed             floor                                        (the network has no extra output)
    learned_range     floor + span * (value + 1) / 2,  floor = log beta tilde, floor + span = log beta
    learned_diagonal  floor + value,                   floor = log beta tilde

beta tilde_1 = 0, so the variance at t = 1 is a choice. It moves L_0 by bits, and so it is a setting, `first_variance`,
that reports must show: "next" takes beta tilde_2, the next step's; "beta" takes beta_1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from core.arrays import Array
from core.forward import posterior
from core.schedules import Schedule, Table


def log_beta(schedule: Schedule) -> Table:
    """log beta_t, (T + 1,); entry 0 is NaN. The upper end of the reverse variance (Ho et al. 2020, sec. 3.2)."""
    return np.append(np.nan, np.log(schedule.beta[1:]))


def _first_next(schedule: Schedule) -> float:
    """log beta tilde_2; a chain of one step has no next, and takes log beta_1."""
    if schedule.num_steps == 1:
        return float(np.log(schedule.beta[1]))
    return float(posterior(schedule, 2).log_variance)


FIRST_VARIANCES: dict[str, Callable[[Schedule], float]] = {
    "next": _first_next,
    "beta": lambda schedule: float(np.log(schedule.beta[1])),
}
"""log variance of the last reverse step, t = 1, where beta tilde is 0."""


def log_beta_tilde(schedule: Schedule, first_variance: str = "next") -> Table:
    """log beta tilde_t, (T + 1,), with entry 1 chosen by `first_variance`; entry 0 is NaN."""
    if first_variance not in FIRST_VARIANCES:
        raise ValueError(f"unknown first_variance {first_variance!r}; known: {', '.join(FIRST_VARIANCES)}")
    later = posterior(schedule, np.arange(2, schedule.num_steps + 1)).log_variance
    return np.concatenate([[np.nan, FIRST_VARIANCES[first_variance](schedule)], later])


def log_tilde_ratio(schedule: Schedule) -> Table:
    """log(beta tilde_t / beta_t), (T + 1,), which tends to 0 late in the chain; -inf at t = 1, entry 0 is NaN."""
    before, now = schedule.one_minus_alpha_bar[:-1], schedule.one_minus_alpha_bar[1:]
    kept = before / now
    gained = schedule.alpha_bar[:-1] * schedule.beta[1:] / now  # 1 - kept, not formed by subtraction
    with np.errstate(divide="ignore"):
        return np.append(np.nan, np.where(kept < 0.5, np.log(kept), np.log1p(-np.minimum(gained, 0.5))))


FIXED_VARIANCES = ("beta_tilde", "beta")
LEARNED_VARIANCES = ("learned_range", "learned_diagonal")
VARIANCES = FIXED_VARIANCES + LEARNED_VARIANCES


def check_variance(variance: str) -> None:
    if variance not in VARIANCES:
        raise ValueError(f"unknown variance {variance!r}; known: {', '.join(VARIANCES)}")


def floor_and_span(variance: str, log_beta_tilde: Array, log_beta: Array) -> tuple[Array, Array]:
    """The two tables of the formula above from log beta tilde and log beta; span is 0 where it is not used."""
    check_variance(variance)
    if variance == "beta":
        return log_beta, 0 * log_beta
    return log_beta_tilde, log_beta - log_beta_tilde if variance == "learned_range" else 0 * log_beta_tilde


def log_variance(variance: str, floor: Array, span: Array, value: Array) -> Array:
    """log of the reverse variance from gathered `floor` and `span` and the network's `value` (None where fixed).

    learned_range: Nichol & Dhariwal (2021), eq. 15, with value = -1 and 1 at the two ends and, as there, no
    bound on it. learned_diagonal: Ho et al. (2020), Table 2; value 0 is beta tilde.
    """
    if variance == "learned_range":
        return floor + span * (0.5 * (value + 1.0))
    if variance == "learned_diagonal":
        return floor + value
    return floor
