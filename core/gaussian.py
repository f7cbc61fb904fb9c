"""Normal distributions: KL, log density, log CDF, and the likelihood of data that sits on K levels.

Everything is elementwise, in nats, and takes `xp`. Log variances rather than variances, because the objectives
need their differences.

Ho et al. (2020): https://arxiv.org/abs/2006.11239
"""

from __future__ import annotations

import math

from core.arrays import NUMPY, Array, ArrayNamespace

_SERIES = tuple(1 / math.factorial(k) for k in range(16, 1, -1))
# Mills' ratio times z in u = 1/z^2: 1 - u + 3 u^2 - 15 u^3 ...; 18 terms reach 1e-15 from z = 10 on.
# Floats, because PyTorch takes no whole number beyond 64 bits.
_MILLS = tuple(float((-1) ** k * math.prod(range(1, 2 * k, 2))) for k in range(18, -1, -1))
_MILLS_FROM = 10.0
_NARROW = 1e-3


def expm1_minus_identity(x: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """exp(x) - 1 - x, with full relative accuracy near 0, where subtracting would leave only rounding."""
    small = xp.abs(x) < 0.5
    y = xp.where(small, x, 0 * x)
    series = 0 * y
    for coefficient in _SERIES:
        series = series * y + coefficient
    return xp.where(small, series * y * y, xp.expm1(x) - x)


def normal_kl(mean_q: Array, log_var_q: Array, mean_p: Array, log_var_p: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """KL(N(mean_q, exp(log_var_q)) || N(mean_p, exp(log_var_p))), elementwise in nats.

    1/2 (exp(d) - 1 - d + (mean_q - mean_p)^2 / var_p) with d = log_var_q - log_var_p; never negative, 0 only at
    equality.
    """
    d = log_var_q - log_var_p
    return 0.5 * (expm1_minus_identity(d, xp) + (mean_q - mean_p) ** 2 * xp.exp(-log_var_p))


def normal_log_density(x: Array, mean: Array, log_var: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """log N(x; mean, exp(log_var)), elementwise in nats per unit of x."""
    return -0.5 * (math.log(2 * math.pi) + log_var + (x - mean) ** 2 * xp.exp(-log_var))


def log_normal_cdf(z: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """log P(Z <= z) for Z standard normal, accurate in both tails, with a gradient that never vanishes on the left.

    By erfc to z = -10, and by the asymptotic series of Mills' ratio below, where erfc would underflow in float32.
    """
    far = z < -_MILLS_FROM
    near_z = xp.where(far, 0 * z, z)
    half_tail = 0.5 * xp.erfc(xp.abs(near_z) / math.sqrt(2))
    positive = near_z > 0
    left_tail = xp.where(positive, 0 * z + 0.5, half_tail)  # not 0, whose log has no gradient
    near = xp.where(positive, xp.log1p(-xp.where(positive, half_tail, 0 * z)), xp.log(left_tail))
    far_z = xp.where(far, z, 0 * z - _MILLS_FROM)
    u = 1 / (far_z * far_z)
    mills = 0 * u
    for coefficient in _MILLS:
        mills = mills * u + coefficient
    asymptotic = -0.5 * far_z * far_z - xp.log(-far_z) - 0.5 * math.log(2 * math.pi) + xp.log(mills)
    return xp.where(far, asymptotic, near)


def bin_width(levels: int) -> float:
    """The distance between neighbouring ones of K evenly spaced levels from -1 to 1."""
    if levels < 2:
        raise ValueError(f"discrete data has at least 2 levels, got {levels}; continuous data has none (None)")
    return 2 / (levels - 1)


def discretized_log_likelihood(x: Array, mean: Array, log_var: Array, levels: int, xp: ArrayNamespace = NUMPY) -> Array:
    """log of the mass that N(mean, exp(log_var)) gives to the bin around level x, elementwise in nats.

    Ho et al. (2020), eq. 13, for any number of levels: x holds values -1 + 2k/(K-1), k = 0..K-1; each bin is
    one bin width wide, and the first and last reach to -inf and +inf, so that the K masses sum to 1.
    """
    return log_bin_mass(x, x - mean, log_var, levels, xp)


def log_bin_mass(x: Array, error: Array, log_var: Array, levels: int, xp: ArrayNamespace = NUMPY) -> Array:
    """`discretized_log_likelihood` from error = x - mean, for callers that know it better than the difference.

    The bin is mirrored to the left of the mean before its two log CDFs are subtracted, so both tails keep their
    relative accuracy and the gradient is that of the true mass at any distance (the usual difference of CDFs,
    clipped, has gradient zero beyond 6 sigma). A bin of half width h < 1e-3 sigma would be lost in that subtraction;
    its mass is its width times the density at its middle, with the next term of the series in h.
    """
    half = bin_width(levels) / 2
    inverse_std = xp.exp(-0.5 * log_var)
    lower = (error - half) * inverse_std
    upper = (error + half) * inverse_std
    mirrored = error > 0
    narrow = half * inverse_std < _NARROW
    near = xp.where(narrow, 0 * error, xp.where(mirrored, -lower, upper))
    far = xp.where(narrow, 0 * error - 1.0, xp.where(mirrored, -upper, lower))
    log_near = log_normal_cdf(near, xp)
    log_far = log_normal_cdf(far, xp)
    wide = log_near + xp.log(-xp.expm1(log_far - log_near))
    h = xp.where(narrow, half * inverse_std + 0 * error, 0 * error + _NARROW)
    z = xp.where(narrow, error * inverse_std, 0 * error)
    middle = xp.log(2 * h) + normal_log_density(z, 0 * z, 0 * z, xp) + xp.log1p((z * z - 1) * (h * h) / 6)
    inner = xp.where(narrow, middle, wide)
    # Half a bin of slack, because x reaches us rounded to the working dtype.
    first = x < -1 + half
    last = x > 1 - half
    edge = log_normal_cdf(xp.where(first, upper, -lower), xp)
    return xp.where(first | last, edge, inner)
