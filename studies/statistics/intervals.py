"""An estimate with its interval, and Student's interval of a mean.

mean ± t_{n-1} s / sqrt(n), exact at any n >= 2 for independent normal values (Student 1908); nothing is
assumed about their spread. One value has no spread, so its interval is the whole line.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit


@dataclass(frozen=True)
class Interval:
    """An estimate between `low` and `high`, in the unit of the values, from `n` independent units."""

    estimate: float
    low: float
    high: float
    confidence: float
    n: int

    @property
    def half_width(self) -> float:
        """Half of high - low; infinite where one value had to do."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside: the two-sided test of no effect at level 1 - confidence."""
        return self.excludes(0.0)

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside the closed interval."""
        return not self.low <= value <= self.high

    def __str__(self) -> str:
        """ "0.031 ± 0.010", to two digits of the half width; "0.83 (0.36 to 1.00)" where the sides differ."""
        width = self.half_width
        if width == 0 or not math.isfinite(width):
            return f"{self.estimate:.3g} ± {'0' if width == 0 else '∞'}"
        exponent = math.floor(math.log10(max(abs(self.estimate), width)))
        scale, suffix = (exponent, f"e{exponent:+03d}") if not -5 <= exponent < 6 else (0, "")
        estimate, low, high, width = (x / 10.0**scale for x in (self.estimate, self.low, self.high, width))
        # The exponent of the *rounded* width: 0.0996 is written 0.10, not 0.100.
        decimals = max(0, 1 - int(f"{width:.1e}".split("e")[1]))
        symmetric = math.isclose(high - estimate, estimate - low, rel_tol=1e-6)
        spread = f" ± {width:.{decimals}f}" if symmetric else f" ({low:.{decimals}f} to {high:.{decimals}f})"
        text = f"{_no_negative_zero(estimate, decimals)}{spread}"
        return f"({text}){suffix}" if suffix else text


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean: mean ± t_{n-1} s / sqrt(n).

    Student (1908), Biometrika 6. `values` has shape (n,), one independent value an entry; s divides by n - 1.
    With n = 1 the interval is (-inf, inf). Equal values give zero width: what cannot vary (two frameworks
    that agree to the last digit) is known. ValueError for no values, one that is not finite, or more than one
    axis.
    """
    values = finite_values(values)
    quantile = t_quantile(len(values) - 1, confidence)
    mean = float(np.mean(values))
    half_width = quantile * standard_error(values) if len(values) > 1 else math.inf
    return Interval(mean, mean - half_width, mean + half_width, confidence, len(values))


def standard_error(values: NDArray[np.float64]) -> float:
    """Standard error of the mean, s / sqrt(n), of n >= 2 values; exactly 0 when they are all equal."""
    if np.all(values == values[0]):  # the mean of equal values can round, leaving a spread of one ulp
        return 0.0
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def t_quantile(degrees: int, confidence: float) -> float:
    """The t with P(|T| <= t) = confidence for Student's T; inf at 0 degrees. ValueError outside (0, 1)."""
    check_confidence(confidence)
    return float(stdtrit(degrees, (1 + confidence) / 2)) if degrees > 0 else math.inf


def check_confidence(confidence: float) -> None:
    """ValueError unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, got {confidence}; write 95 % as 0.95")


def finite_values(values: ArrayLike, name: str = "values") -> NDArray[np.float64]:
    """`values` as a float64 vector, shape (n,); ValueError when empty, not one axis, or not all finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: expected one axis with at least one value, got shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(
            f"{name}: expected finite values, got {array[bad[0]]} at index {bad[0]}"
            f" ({bad.size} of {array.size}); leave such a cell out of both sides of the comparison"
        )
    return array


def _no_negative_zero(value: float, decimals: int) -> str:
    """`value` to that many decimals, without the sign of a rounded zero."""
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text
