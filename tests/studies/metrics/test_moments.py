"""Moments of tables of numbers against scipy and numpy, and errors between them where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from studies.metrics.moments import moment_errors, moments


def test_moments_are_those_of_scipy_and_numpy():
    points = np.random.default_rng(0).gamma(2.0, size=(60, 4)) @ np.random.default_rng(1).normal(size=(4, 4)) + 3
    of_points = moments(points)
    # Sums of 60 numbers of order 1: a few hundred roundings.
    np.testing.assert_allclose(of_points.mean, points.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(of_points.deviation, points.std(axis=0), rtol=1e-13)
    np.testing.assert_allclose(of_points.skewness, stats.skew(points), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(of_points.correlation, np.corrcoef(points.T), atol=1e-13)


def test_errors_are_in_the_units_that_they_say():
    """Samples a x + b of the reference: shifted by b deviations, a factor a, and everything else as it was."""
    reference = np.random.default_rng(0).gamma(2.0, size=(50, 3))
    mean, deviation = reference.mean(axis=0), reference.std(axis=0)
    factor, shift = np.array([0.5, 1.0, 3.0]), np.array([0.1, -2.0, 0.0])
    errors = moment_errors((reference - mean) * factor + mean + shift * deviation, reference)
    np.testing.assert_allclose(errors.mean, shift, atol=1e-13)
    np.testing.assert_allclose(errors.deviation, factor, rtol=1e-13)
    np.testing.assert_allclose(errors.skewness, 0, atol=1e-12)
    assert errors.correlation.shape == (3,)
    np.testing.assert_allclose(errors.correlation, 0, atol=1e-13)
    flipped = moment_errors(reference * [1, -1, 1], reference)
    pairs = np.corrcoef(reference.T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(flipped.correlation, [-2 * pairs[0], 0, -2 * pairs[2]], atol=1e-13)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e8])
def test_a_constant_column_has_no_errors_and_spoils_none(constant):
    """Its mean rounds, so that what is left of it after centring is not always 0."""
    rng = np.random.default_rng(0)
    reference, samples = rng.normal(size=(30, 3)), rng.normal(size=(20, 3))
    reference[:, 1] = constant
    errors = moment_errors(samples, reference)
    for values in (errors.mean, errors.deviation, errors.skewness):
        assert np.isnan(values).tolist() == [False, True, False]
    assert np.isnan(errors.correlation).tolist() == [True, False, True]
    collapsed = moment_errors(np.full((20, 3), 0.1), rng.normal(size=(30, 3)))
    assert collapsed.deviation.tolist() == [0.0, 0.0, 0.0]
    assert np.all(np.isfinite(collapsed.mean))
    assert np.all(np.isnan(collapsed.correlation))
