"""Normal distributions against quadrature, scipy and mpmath."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate, stats

from core.gaussian import (
    bin_width,
    discretized_log_likelihood,
    expm1_minus_identity,
    log_bin_mass,
    log_normal_cdf,
    normal_kl,
    normal_log_density,
)

means = st.floats(-5, 5)
log_vars = st.floats(-8, 4)


TINY = 1e-300  # below, float64 has no full precision


def exact_expm1_minus_identity(x) -> float:
    """exp(x) - 1 - x = x^2/2 1F1(1; 3; x), which does not cancel."""
    with mp.workdps(40):
        x = mp.mpf(float(x))
        return float(x**2 / 2 * mp.hyp1f1(1, 3, x))


def exact_log_cdf(z) -> mp.mpf:
    z = mp.mpf(float(z))
    return mp.log1p(-mp.ncdf(-z)) if z > 0 else mp.log(mp.ncdf(z))


@given(means, log_vars, means, log_vars)
def test_kl_is_the_integral_of_the_log_ratio(mean_q, log_var_q, mean_p, log_var_p):
    """KL = E_q[log q - log p], by Gauss-Hermite quadrature, exact for the quadratic log ratio."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    std = np.exp(0.5 * log_var_q)
    x = mean_q + std * nodes
    ratio = stats.norm.logpdf(x, mean_q, std) - stats.norm.logpdf(x, mean_p, np.exp(0.5 * log_var_p))
    expected = np.sum(weights * ratio) / np.sqrt(2 * np.pi)
    # The log ratio is a difference of terms of size (x - mean_p)^2 / var_p.
    size = 1 + np.max(np.abs(x - mean_p)) ** 2 * np.exp(-log_var_p)
    assert normal_kl(mean_q, log_var_q, mean_p, log_var_p) == pytest.approx(expected, abs=1e-13 * size)


@given(means, log_vars, st.floats(-1, 1), st.floats(-1, 1))
def test_kl_is_positive_and_zero_only_at_equality(mean, log_var, mean_shift, log_var_shift):
    """KL >= 0, = 0 at equality, and > 0 wherever the arguments differ in float64 at all."""
    assert normal_kl(mean, log_var, mean, log_var) == 0
    kl = normal_kl(mean + mean_shift, log_var + log_var_shift, mean, log_var)
    assert kl >= 0
    assume(abs(mean_shift) > 1e-14 or abs(log_var_shift) > 1e-14)
    if mean + mean_shift != mean or log_var + log_var_shift != log_var:
        assert kl > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kl_of_almost_equal_normals_keeps_its_digits(dtype):
    """KL falls as the square of the difference, down to where the difference itself is rounding."""
    shift = np.array([1e-1, 1e-2, 1e-3, 1e-4], dtype)
    zero = 0 * shift
    expected = [0.5 * exact_expm1_minus_identity(d) for d in shift]
    # A series of 15 terms and the operations around it: a few roundings.
    np.testing.assert_allclose(normal_kl(zero, shift, zero, zero), expected, rtol=4 * np.finfo(dtype).eps)


def test_expm1_minus_identity_everywhere():
    """exp(x) - 1 - x to a few roundings, from where x^2 / 2 nearly underflows to where exp overflows."""
    size = np.concatenate([np.logspace(-150, 2.8, 300), [0.5, 0.49999999999999994]])
    x = np.concatenate([size, -size])
    exact = [exact_expm1_minus_identity(v) for v in x]
    # Subtracting at |x| = 0.5, the worst place, loses a factor of 4.4 on half an ulp of expm1.
    np.testing.assert_allclose(expm1_minus_identity(x), exact, rtol=1e-15)
    assert expm1_minus_identity(np.zeros(1)) == 0


def test_expm1_minus_identity_in_float32():
    size = np.logspace(-15, 1.9, 200).astype(np.float32)
    x = np.concatenate([size, -size])
    exact = [exact_expm1_minus_identity(v) for v in x]
    got = expm1_minus_identity(x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, exact, rtol=5e-7)  # 4.4 roundings of 6e-8, and one more


LEFT = np.concatenate([np.linspace(-40, 0, 300), -np.logspace(1, 8, 60), [-10.0, np.nextafter(-10, -11)]])
RIGHT = np.linspace(0, 37, 200)


def test_log_normal_cdf_on_the_left():
    """log P(Z <= z) for z <= 0 down to -1e8: 1e-14 relative, both sides of the seam at -10."""
    with mp.workdps(30):
        exact = [float(exact_log_cdf(z)) for z in LEFT]
    np.testing.assert_allclose(log_normal_cdf(LEFT), exact, rtol=1e-14)


def test_log_normal_cdf_on_the_right():
    """Above 0 it is -P(Z > z), whose relative condition is z^2: rounding z / sqrt(2) costs z^2 1e-16."""
    with mp.workdps(30):
        exact = np.array([float(exact_log_cdf(z)) for z in RIGHT])
    error = np.abs(log_normal_cdf(RIGHT) - exact) / np.abs(exact)
    assert np.all(error < 1e-15 * (2 + RIGHT**2))


@pytest.mark.filterwarnings("error")
def test_log_normal_cdf_in_float32():
    """The same in float32, and without a log of 0 on the way, whose gradient would be NaN."""
    z = np.concatenate([LEFT, RIGHT, [60.0]]).astype(np.float32)
    with mp.workdps(30):
        exact = np.array([float(exact_log_cdf(value)) for value in z])
    got = log_normal_cdf(z)
    assert got.dtype == np.float32
    # As above with 6e-8 for 1e-16; P(Z > z) below 1e-38 is no normal number of float32.
    tolerance = 5e-7 * np.abs(exact) * np.where(z > 0, 2 + z.astype(float) ** 2, 2) + 1.2e-38
    assert np.all(np.abs(got - exact) < tolerance)


@given(st.floats(-1e4, 8))
def test_log_normal_cdf_rises(z):
    """The slope stays positive: half an ulp of noise apart, a larger z has a larger log CDF."""
    step = 1e-6 * (1 + abs(z))
    assert log_normal_cdf(np.array(z + step)) > log_normal_cdf(np.array(z))


@given(means, means, log_vars)
def test_log_density(x, mean, log_var):
    expected = stats.norm.logpdf(x, mean, np.exp(0.5 * log_var))
    # exp(log_var) and (x - mean)^2 are rounded, up to 1e2 / 3e-4 in size.
    assert normal_log_density(x, mean, log_var) == pytest.approx(expected, rel=1e-13, abs=1e-13)


@given(st.integers(2, 256), st.floats(-3, 3), st.floats(-12, 4))
def test_discretized_likelihood_sums_to_one(levels, mean, log_var):
    """The K masses sum to 1 for any number of levels, mean and variance."""
    x = np.linspace(-1, 1, levels)
    log_mass = discretized_log_likelihood(x, mean, np.full(levels, log_var), levels)
    # A mass is the difference of two CDFs: 1e-16 each, relative to the CDFs, at most 1 each, of up to 256 levels;
    # log mass of a bin w sigma wide is off by about 1e-16 / w, w >= 1e-3.
    assert np.exp(log_mass).sum() == pytest.approx(1, abs=1e-12)


@given(st.integers(2, 256), st.data(), st.floats(-3, 3), st.floats(-6, 4))
def test_discretized_likelihood_is_a_difference_of_cdfs(levels, data, mean, log_var):
    """Against scipy.stats, in logs, wherever its own difference keeps its digits."""
    k = data.draw(st.integers(0, levels - 1))
    x = np.linspace(-1, 1, levels)[k]
    half = 1 / (levels - 1)
    normal = stats.norm(mean, np.exp(0.5 * log_var))
    # Mirrored, so that both are lower tails.
    if x > mean:
        low, high = normal.sf(x + half), normal.sf(x - half)
    else:
        low, high = normal.cdf(x - half), normal.cdf(x + half)
    low = 0.0 if (k == 0 and x <= mean) or (k == levels - 1 and x > mean) else low
    if (k == 0 and x > mean) or (k == levels - 1 and x <= mean):
        low, high = (normal.sf(x + half), 1.0) if k == 0 else (normal.cdf(x - half), 1.0)
    assume(high - low > 1e-300)
    cancelled = 1e-15 * high / (high - low)
    # Far out, z is rounded: z^2 1e-16 in the log.
    z = (abs(x - mean) + half) * np.exp(-0.5 * log_var)
    got = discretized_log_likelihood(np.array(x), mean, np.array(log_var), levels)
    assert got == pytest.approx(np.log(high - low), abs=8 * cancelled + 1e-14 * (1 + z**2))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_discretized_likelihood_far_in_the_tail(levels):
    """log of a mass down to exp(-5e7), of an inner and of both outer bins, against mpmath."""
    x = np.array([-1.0, 1.0, np.linspace(-1, 1, levels)[levels // 2]])
    half = mp.mpf(1) / (levels - 1)
    for log_var in (-2.0, -6.0, -14.0):
        for mean in (-9.0, -1.2, 0.3, 1.4, 9.0):
            got = discretized_log_likelihood(x, np.full(3, mean), np.full(3, log_var), levels)
            with mp.workdps(60):
                std = mp.exp(mp.mpf(log_var) / 2)
                for value, result in zip(x, got, strict=True):
                    lower = -mp.inf if value == -1 else (mp.mpf(float(value)) - mp.mpf(mean) - half) / std
                    upper = mp.inf if value == 1 else (mp.mpf(float(value)) - mp.mpf(mean) + half) / std
                    if lower > 0:  # the mass of the mirrored bin
                        lower, upper = -upper, -lower
                    lost = mp.ncdf(lower) + (mp.ncdf(-upper) if upper > 0 else 0)
                    exact = mp.log1p(-lost) if upper > 0 else mp.log(mp.ncdf(upper) - mp.ncdf(lower))
                    # Rounding z costs z^2 1e-16 of the log, and a bin of w sigma is a difference that loses 1 / w;
                    # where the mass is nearly 1, so much of the lost mass.
                    z = min(abs(lower), abs(upper))
                    loss = 1 + 1 / (2 * half / std)
                    assert abs(mp.mpf(float(result)) - exact) < 1e-15 * (1 + z**2) * loss * min(1, abs(exact)) + TINY


@given(st.integers(3, 64), st.floats(-0.9, 0.9), st.floats(-9, 2))
def test_bin_mass_is_symmetric(levels, error, log_var):
    """Mirroring data and error leaves the mass: both sides are the same arithmetic."""
    x = np.linspace(-1, 1, levels)
    log_var = np.full(levels, log_var)
    left = log_bin_mass(x, np.full(levels, error), log_var, levels)
    right = log_bin_mass(-x, np.full(levels, -error), log_var, levels)
    np.testing.assert_array_equal(left, right)


def test_discretized_likelihood_tends_to_the_density():
    """Many levels: mass / width is the density, to the order of the width squared over 24 var."""
    levels, mean, log_var = 4001, 0.2, -2.0
    x = np.linspace(-1, 1, levels)[1:-1]
    mass = discretized_log_likelihood(x, mean, np.full(x.shape, log_var), levels)
    density = normal_log_density(x, mean, log_var)
    width = bin_width(levels)
    curvature = (1.2**2 * np.exp(4.0) + np.exp(2.0)) * width**2 / 24
    np.testing.assert_allclose(mass - np.log(width), density, atol=1.1 * curvature)


def test_mass_of_a_bin_by_quadrature():
    """One mass by adaptive quadrature of the density, to the quadrature's own error."""
    mass, error = integrate.quad(lambda x: stats.norm.pdf(x, 0.3, 0.2), -1 / 16, 1 / 16, epsabs=1e-14)
    got = discretized_log_likelihood(np.array(0.0), 0.3, np.array(2 * np.log(0.2)), 17)
    assert np.exp(got) == pytest.approx(mass, abs=error + 1e-15)


def test_bad_levels():
    for levels in (1, 0, -5):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
            bin_width(levels)
        expected = f"discrete data has at least 2 levels, got {levels}; continuous data has none (None)"
        assert str(caught.value) == expected


@pytest.mark.parametrize("half_width_in_sigma", [1e-2, 1.1e-3, 0.9e-3, 1e-5, 1e-9])
@pytest.mark.parametrize("z", [0.0, 0.3, -2.0, 6.0, -30.0])
def test_narrow_bins_keep_their_mass(half_width_in_sigma, z):
    """A bin far narrower than sigma has the mass of the exact CDF difference, on both sides of the series' switch.

    The subtraction above the switch loses eps / h = 2e-13 of the mass, the series below it (h z)^4 / 120 at most.
    """
    levels = 257
    half = 1 / (levels - 1)
    sigma = half / half_width_in_sigma
    with mp.workdps(60):
        h, centre = mp.mpf(half_width_in_sigma), mp.mpf(z)
        exact = mp.log(mp.ncdf(-abs(centre) + h) - mp.ncdf(-abs(centre) - h))
    computed = log_bin_mass(np.array(0.0), np.array(z * sigma), np.array(2 * np.log(sigma)), levels)
    tolerance = 1e-12 + 2 * (half_width_in_sigma * abs(z)) ** 4 / 120 * (half_width_in_sigma < 1e-3)
    assert float(computed) == pytest.approx(float(exact), rel=2e-14, abs=tolerance)
