"""Noise schedules: the variances beta_1..beta_T of the forward process, and the tables that follow from them.

q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I), and alpha_bar_t is the product of 1 - beta_s over s <= t.

Every table has T + 1 entries, so that index t is step t; step 0 is the data (`alpha_bar[0] == 1`). Tables are
float64 and agree with exact arithmetic on the schedule's formula to 1e-14 relative (log SNR: absolute), for T up
to 4000. Two things make that possible: log alpha_bar is a compensated running sum, kept with its low word, from
which 1 - alpha_bar is taken by expm1; and no beta is formed as 1 minus a ratio.

Sohl-Dickstein et al. (2015): https://arxiv.org/abs/1503.03585
Ho et al. (2020): https://arxiv.org/abs/2006.11239
Song et al. (2021): https://arxiv.org/abs/2010.02502
Nichol & Dhariwal (2021): https://arxiv.org/abs/2102.09672
Kingma et al. (2021): https://arxiv.org/abs/2107.00630
Jabri et al. (2022): https://arxiv.org/abs/2212.11972
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import pi
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Table = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Schedule:
    """A discrete variance-preserving noise schedule of T steps; make one with `linear`, `cosine`, `from_betas`, ...

    `beta` (T + 1,), with `beta[0] == 0`: variance added by each step, of the unit-variance signal.
    `log_alpha_bar` + `log_alpha_bar_low` (T + 1,): log alpha_bar as an unevaluated sum of two doubles.
    `steps` (T + 1,): for each step the step of the chain it was respaced from (0..T where it was not): what a
    network trained on that chain must be told.
    `name`: the maker's name and settings, for reports.
    """

    beta: Table
    log_alpha_bar: Table
    log_alpha_bar_low: Table = field(repr=False)
    steps: NDArray[np.int64] = field(repr=False)
    name: str = "custom"

    def __post_init__(self) -> None:
        for table in (self.beta, self.log_alpha_bar, self.log_alpha_bar_low, self.steps):
            table.setflags(write=False)

    def __repr__(self) -> str:
        return f"Schedule({self.name}, num_steps={self.num_steps})"

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.beta) - 1

    @cached_property
    def log_alpha(self) -> Table:
        """log(1 - beta_t); 0 at t = 0."""
        return np.append(0.0, np.diff(self.log_alpha_bar) + np.diff(self.log_alpha_bar_low))

    @cached_property
    def alpha(self) -> Table:
        """1 - beta_t; 1 at t = 0."""
        return np.exp(self.log_alpha)

    @cached_property
    def alpha_bar(self) -> Table:
        """The share of the signal's variance left in x_t; 1 at t = 0."""
        leading = np.exp(self.log_alpha_bar)
        return leading + leading * self.log_alpha_bar_low

    @cached_property
    def one_minus_alpha_bar(self) -> Table:
        """The variance of q(x_t | x_0); 0 at t = 0."""
        return 0.0 - np.expm1(self.log_alpha_bar)  # not -0.0 at t = 0, which would turn kl_weight's inf negative

    @cached_property
    def log_one_minus_alpha_bar(self) -> Table:
        """log of the variance of q(x_t | x_0); -inf at t = 0, and accurate where alpha_bar is tiny."""
        small = self.alpha_bar < 0.5
        with np.errstate(divide="ignore"):
            return np.where(small, np.log1p(-np.where(small, self.alpha_bar, 0.0)), np.log(self.one_minus_alpha_bar))

    @cached_property
    def log_snr(self) -> Table:
        """log(alpha_bar_t / (1 - alpha_bar_t)), falling in t; inf at t = 0."""
        return self.log_alpha_bar - self.log_one_minus_alpha_bar

    def check_steps(self, t: ArrayLike, lowest: int = 1) -> NDArray[np.int64]:
        """`t` as an integer array, or a ValueError naming the first value outside lowest..T.

        Called on the host, because a compiled gather clamps a wrong index in silence.
        """
        array = np.asarray(t)
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"steps are integers, got {array.dtype} values {t!r}; round them first")
        wrong = array[(array < lowest) | (array > self.num_steps)]
        if wrong.size:
            hint = "; step 0 is the data" if lowest == 1 else ""
            raise ValueError(f"steps run from {lowest} to {self.num_steps}, got {wrong.flat[0]}{hint}")
        return array.astype(np.int64)

    def respaced(self, spacing: int | str | Sequence[int]) -> Schedule:
        """The chain that visits only some steps, with alpha_bar kept at each step visited.

        Nichol & Dhariwal (2021), sec. 4: beta'_i = 1 - alpha_bar[S_i] / alpha_bar[S_{i-1}]. `spacing` is
        - the visited steps themselves, increasing and within 1..T;
        - a number n: n steps spread evenly from 1 to T, both ends included (only T where n = 1), like "n" below;
        - "ddimN": N steps at the smallest integer stride that gives exactly N, counted from step 1 (Song et al. 2021);
        - "quadraticN": N steps at T (i/N)^2, i = 1..N, denser near the data (Song et al. 2021, app. D.2);
        - "logsnrN": N steps from 1 to T, as evenly spaced in log SNR as whole steps allow (Lu et al. 2022);
        - "10,20,30": the chain cut into as many parts of equal length, the first of them longer by one where it does
          not come out even, and in each so many steps spread evenly, both its ends included (its first step for a 1).
          This is improved-diffusion's rule to the step, and "n" alone its rule for one part.
        """
        visited = np.append(0, spaced_steps(self.num_steps, spacing, self.log_snr))
        high, low = self.log_alpha_bar[visited], self.log_alpha_bar_low[visited]
        named = spacing if isinstance(spacing, int | str) else f"{len(visited) - 1} chosen steps"
        return Schedule(
            beta=np.append(0.0, -np.expm1(np.diff(high) + np.diff(low))),
            log_alpha_bar=high,
            log_alpha_bar_low=low,
            steps=self.steps[visited],
            name=f"{self.name} respaced to {named}",
        )


def spaced_steps(
    num_steps: int, spacing: int | str | Sequence[int], log_snr: ArrayLike | None = None
) -> NDArray[np.int64]:
    """The steps that `Schedule.respaced(spacing)` visits: increasing integers within 1..num_steps.

    Only "logsnrN" needs the chain's own `log_snr` (num_steps + 1,), and is a ValueError without it.
    """
    if isinstance(spacing, str):
        return _named_spacing(num_steps, spacing, log_snr)
    if isinstance(spacing, int | np.integer):
        return np.array([num_steps]) if spacing == 1 else _even(1, num_steps, int(spacing))
    steps = np.asarray(spacing)
    if steps.ndim != 1 or not steps.size or not np.issubdtype(steps.dtype, np.integer):
        raise ValueError(f"visited steps are a non-empty list of integers, got {spacing!r}")
    if steps[0] < 1 or steps[-1] > num_steps or np.any(np.diff(steps) < 1):
        raise ValueError(f"visited steps increase within 1..{num_steps}, got {spacing!r}; sort them, drop repeats")
    return steps.astype(np.int64)


def _named_spacing(num_steps: int, spacing: str, log_snr: ArrayLike | None) -> NDArray[np.int64]:
    name = spacing.rstrip("0123456789")
    digits = spacing[len(name) :]
    if name in _SPACINGS and digits and int(digits) > 0:
        return _SPACINGS[name](num_steps, int(digits), log_snr)
    counts = spacing.split(",")
    if not all(count.strip().isdecimal() and int(count) > 0 for count in counts):
        raise ValueError(
            'a spacing is a number, "ddimN", "quadraticN", "logsnrN", or numbers as in "10,10,10", '
            f"N at least 1, got {spacing!r}"
        )
    if len(counts) > num_steps:
        raise ValueError(f"{num_steps} steps cannot be cut into {len(counts)} parts; use fewer counts than {spacing!r}")
    shortest, longer = divmod(num_steps, len(counts))
    cuts = [part * shortest + min(part, longer) for part in range(len(counts) + 1)]
    parts = [_even(first + 1, last, int(count)) for first, last, count in zip(cuts, cuts[1:], counts, strict=False)]
    return np.concatenate(parts)


def _strided(num_steps: int, count: int, _: ArrayLike | None) -> NDArray[np.int64]:
    for stride in range(1, num_steps + 1):
        if len(range(1, num_steps + 1, stride)) == count:
            return np.arange(1, num_steps + 1, stride)
    raise ValueError(
        f"no integer stride visits exactly {count} of {num_steps} steps; "
        f"use the number {count} instead of 'ddim{count}'"
    )


def _quadratic(num_steps: int, count: int, _: ArrayLike | None) -> NDArray[np.int64]:
    """T (i/N)^2 rounded, i = 1..N; what falls on a step already taken goes to the next one."""
    _check_count(1, num_steps, count)
    return _distinct(np.rint(num_steps * (np.arange(1, count + 1) / count) ** 2), num_steps)


def _even_in_log_snr(num_steps: int, count: int, log_snr: ArrayLike | None) -> NDArray[np.int64]:
    """The steps nearest to `count` points at equal distance in log SNR from step 1 to T.

    Where one step alone falls by more than that distance, no step lies between: its fall counts as one distance,
    and the distance of the others is the smaller for it. So all points have steps of their own.
    """
    if log_snr is None or np.shape(log_snr) != (num_steps + 1,):
        raise ValueError(f"the spacing 'logsnr{count}' needs the schedule's log_snr; use schedule.respaced")
    _check_count(1, num_steps, count)
    if count == 1:
        return np.array([num_steps])
    fall = -np.diff(np.asarray(log_snr, dtype=np.float64)[1:])  # step 0, at infinity, is not visited
    # With the k largest falls counted as one distance each, the rest share count - 1 - k distances.
    falls = np.sort(fall)[::-1]
    remaining = np.cumsum(falls[::-1])[::-1][: count - 1]
    distances = remaining / np.arange(count - 1, 0, -1)
    distance = distances[np.argmax(falls[: count - 1] <= distances)]
    position = np.append(0.0, np.cumsum(np.minimum(fall / distance, 1.0)))
    between = (position[:-1] + position[1:]) / 2
    return _distinct(1 + np.searchsorted(between, np.linspace(0, position[-1], count)), num_steps)


def _distinct(steps: NDArray[Any], num_steps: int) -> NDArray[np.int64]:
    """Steps that do not fall, made to rise within 1..num_steps: a repeat moves up, or down where it would pass T."""
    i = np.arange(1, len(steps) + 1)
    moved_up = i + np.maximum.accumulate(steps.astype(np.int64) - i).clip(0)
    distinct: NDArray[np.int64] = np.minimum(moved_up, num_steps - len(steps) + i)
    return distinct


_SPACINGS: dict[str, Callable[[int, int, ArrayLike | None], NDArray[np.int64]]] = {
    "ddim": _strided,
    "quadratic": _quadratic,
    "logsnr": _even_in_log_snr,
}


def _even(first: int, last: int, count: int) -> NDArray[np.int64]:
    """`count` steps from `first` to `last`, both included, as improved-diffusion rounds them; only `first` for 1.

    Distances from `first` are a running sum of one stride: where one lies halfway between two steps, its rounding
    decides, and then the even distance. A grid of another rounding visits other steps than a published respacing.
    """
    _check_count(first, last, count)
    strides = np.full(count - 1, (last - first) / max(count - 1, 1))
    steps: NDArray[np.int64] = first + np.rint(np.append(0.0, np.cumsum(strides))).astype(np.int64)
    return steps


def _check_count(first: int, last: int, count: int) -> None:
    available = last - first + 1
    if not 1 <= count <= available:
        raise ValueError(f"steps {first}..{last} can be respaced to 1..{available} steps, got {count}")


def from_betas(beta: ArrayLike, name: str = "custom") -> Schedule:
    """The schedule of given beta_1..beta_T, shape (T,), each strictly between 0 and 1; log alpha_bar_T >= -700."""
    given = np.array(beta, dtype=np.float64)
    if given.ndim != 1 or given.size < 1:
        raise ValueError(f"betas are a list beta_1..beta_T with T >= 1, got an array of shape {given.shape}")
    wrong = given[~((given > 0) & (given < 1))]
    if wrong.size:
        raise ValueError(f"betas lie strictly between 0 and 1, got {wrong[0]} ({wrong.size} such values)")
    high, low = _compensated_cumsum(np.log1p(-given))
    if high[-1] < -700:
        raise ValueError(f"alpha_bar_T would underflow, its log being {high[-1]:.0f}; use fewer steps or smaller betas")
    return Schedule(np.append(0.0, given), high, low, np.arange(given.size + 1), name)


def from_log_snr(log_snr: ArrayLike, name: str = "custom") -> Schedule:
    """The schedule whose log SNR at steps 1..T is given: within -700..700 and strictly falling, shape (T,).

    alpha_bar = sigmoid(log_snr) (Kingma et al. 2021, eq. 3), and
    beta_t = sigmoid(-log_snr_t) (1 - exp(log_snr_t - log_snr_{t-1})), which forms no ratio near 1.
    """
    given = _checked_log_snr(log_snr)
    return _from_falls(given, -np.diff(given), name)


def _checked_log_snr(log_snr: ArrayLike) -> Table:
    given = np.array(log_snr, dtype=np.float64)
    if given.ndim != 1 or given.size < 1:
        raise ValueError(f"log SNRs are a list for steps 1..T with T >= 1, got an array of shape {given.shape}")
    if np.any(np.isnan(given)) or np.any(np.diff(given) >= 0):
        raise ValueError("log SNRs are numbers that fall strictly from step 1 to T; sort them in falling order")
    if given[0] > 700 or given[-1] < -700:
        raise ValueError(f"log SNRs lie within -700..700, where exp is finite, got {given[0]} to {given[-1]}")
    return given


def _from_falls(log_snr: Table, fall: Table, name: str) -> Schedule:
    """The schedule of log SNRs (T,) and their falls to steps 2..T, (T - 1,).

    A difference of rounded log SNRs has a rounding of 1e-15 of them, which in a small fall is 1e-13: a formula that
    knows the fall gives it.
    """
    beta = np.exp(-np.logaddexp(0, log_snr)) * -np.expm1(np.append(-np.inf, -fall))
    # log1p(-beta) keeps the accuracy of a small beta, the difference of log alpha_bar that of one near 1.
    between = np.diff(np.append(0.0, -np.logaddexp(0, -log_snr)))
    high, low = _compensated_cumsum(np.where(beta < 0.5, np.log1p(-np.minimum(beta, 0.5)), between))
    return Schedule(np.append(0.0, beta), high, low, np.arange(log_snr.size + 1), name)


def linear(num_steps: int, beta_start: float = 1e-4, beta_end: float = 0.02, *, scaled: bool = False) -> Schedule:
    """beta evenly spaced from beta_start to beta_end (Ho et al. 2020, sec. 4, for T = 1000).

    `scaled` multiplies both ends by 1000/T, which keeps the end of the chain near that of T = 1000
    (Nichol & Dhariwal 2021, their code); it needs T > 1000 * beta_end, or beta_T would reach 1.
    """
    _check_num_steps(num_steps)
    scale = 1000 / num_steps if scaled else 1.0
    if scaled and beta_end * scale >= 1:
        raise ValueError(
            f"the scaled linear schedule ends at beta = {beta_end} * 1000/T, which must stay below 1: "
            f"T is at least {int(1000 * beta_end) + 1}, got {num_steps}; use scaled=False or lower beta_end"
        )
    name = f"linear{'-scaled' if scaled else ''}({beta_start:g}, {beta_end:g})"
    return from_betas(np.linspace(beta_start, beta_end, num_steps) * scale, name)


def quadratic(num_steps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """sqrt(beta) evenly spaced between the roots of its ends (Ho et al. 2020, their code, "quad")."""
    _check_num_steps(num_steps)
    root = np.linspace(np.sqrt(beta_start), np.sqrt(beta_end), num_steps)
    return from_betas(root**2, f"quadratic({beta_start:g}, {beta_end:g})")


def constant(num_steps: int, beta: float = 0.01) -> Schedule:
    """The same beta at every step (Ho et al. 2020, their code, "const")."""
    _check_num_steps(num_steps)
    return from_betas(np.full(num_steps, beta), f"constant({beta:g})")


def harmonic(num_steps: int, max_beta: float = 0.999) -> Schedule:
    """beta_t = 1/(T - t + 1), which erases an equal share of the signal at every step.

    Sohl-Dickstein et al. (2015), sec. 2.4.1. The last step would be beta_T = 1; `max_beta` clips it.
    """
    _check_num_steps(num_steps)
    return from_betas(np.minimum(1 / np.arange(num_steps, 0, -1), max_beta), f"harmonic(max_beta={max_beta:g})")


def cosine(num_steps: int, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """alpha_bar_t proportional to cos^2((t/T + s)/(1 + s) pi/2) (Nichol & Dhariwal 2021, eq. 17).

    beta_t is clipped at `max_beta`, which acts on the last step only: there alpha_bar_T would be 0.
    With a < b the angles at t - 1 and t, beta = 1 - cos^2 b / cos^2 a = sin(b - a) sin(a + b) / cos^2 a.
    """
    _check_num_steps(num_steps)
    if s < 0:
        raise ValueError(f"the offset s of the cosine schedule is at least 0, got {s}")
    t = np.arange(1, num_steps + 1)
    quarter = pi / 2 / (num_steps * (1 + s))  # the angle is quarter * (t + s T), and ends at pi/2
    angle_sum = quarter * (2 * t - 1 + 2 * s * num_steps)
    # Near pi the sine loses its relative accuracy; pi - (a + b) has an exact form.
    complement = quarter * (2 * (num_steps - t) + 1)
    sine_of_sum = np.sin(np.where(angle_sum < pi / 2, angle_sum, complement))
    cosine_before = np.sin(quarter * (num_steps - t + 1))
    beta = np.sin(quarter) * sine_of_sum / cosine_before**2
    return from_betas(np.minimum(beta, max_beta), f"cosine(s={s:g}, max_beta={max_beta:g})")


def sigmoid(
    num_steps: int, start: float = -3.0, end: float = 3.0, tau: float = 1.0, max_beta: float = 0.999
) -> Schedule:
    """alpha_bar(t/T) a falling sigmoid from 1 to 0 (Jabri et al. 2022, app. B).

    alpha_bar(u) = (S(end) - S(start + u (end - start))) / (S(end) - S(start)), S(x) = 1 / (1 + exp(-x / tau)).
    `max_beta` clips the last step, where alpha_bar would be 0.
    """
    _check_num_steps(num_steps)
    if not (end > start and tau > 0):
        raise ValueError(f"the sigmoid schedule needs start < end and tau > 0, got {start}, {end}, {tau}")
    # S(b) - S(a) = sinh((b - a)/2) / (2 cosh(a/2) cosh(b/2)), so beta is a quotient of such products.
    t = np.arange(1, num_steps + 1)
    half_step = (end - start) / tau / num_steps / 2
    half_b = start / tau / 2 + half_step * t
    beta = np.sinh(half_step) * np.cosh(end / tau / 2)
    beta = beta / (np.sinh(half_step * (num_steps - t + 1)) * np.cosh(half_b))
    return from_betas(np.minimum(beta, max_beta), f"sigmoid({start:g}, {end:g}, tau={tau:g})")


def log_linear(num_steps: int, first: float = 13.3, last: float = -5.0) -> Schedule:
    """log SNR evenly spaced from `first` to `last` (Kingma et al. 2021, sec. 4.1, their fixed schedule and its ends).

    A chain of one step has only the last.
    """
    _check_num_steps(num_steps)
    log_snr = _checked_log_snr(np.linspace(first, last, num_steps) if num_steps > 1 else [last])
    fall = np.full(num_steps - 1, (first - last) / max(num_steps - 1, 1))
    return _from_falls(log_snr, fall, f"log-linear({first:g}, {last:g})")


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "linear": linear,
    "linear-scaled": lambda num_steps: linear(num_steps, scaled=True),
    "cosine": cosine,
    "quadratic": quadratic,
    "sigmoid": sigmoid,
    "constant": constant,
    "harmonic": harmonic,
    "log-linear": log_linear,
}
"""Schedules by name, at their papers' settings; each takes T."""


def make_schedule(name: str, num_steps: int) -> Schedule:
    """The schedule called `name` in SCHEDULES, of T = num_steps steps."""
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}; known: {', '.join(SCHEDULES)}")
    return SCHEDULES[name](num_steps)


def _check_num_steps(num_steps: int) -> None:
    if isinstance(num_steps, bool) or not isinstance(num_steps, int | np.integer) or num_steps < 1:
        raise ValueError(f"a schedule has a whole number of steps T >= 1, got {num_steps!r}")


def _compensated_cumsum(terms: Table) -> tuple[Table, Table]:
    """Running sums from 0, each as a high and a low word (Knuth's two-sum): a plain cumsum loses 2e-14 at T = 4000."""
    high = np.zeros(terms.size + 1)
    low = np.zeros(terms.size + 1)
    total, error = 0.0, 0.0
    for i, term in enumerate(terms.tolist(), start=1):
        new = total + term
        shadow = new - total
        error += (total - (new - shadow)) + (term - shadow)
        total = new
        high[i], low[i] = total, error
    rounded = high + low  # so that the high word alone is the sum correctly rounded
    return rounded, (high - rounded) + low
