"""Interpolation on a great circle against rotations of the complex plane, and what it must do at its ends."""

from __future__ import annotations

import cmath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.interpolation import spherical_interpolation


@given(st.floats(-3, 3), st.floats(-3.1, 3.1), st.floats(0.1, 10), st.floats(0, 1))
def test_in_a_plane_it_is_a_rotation(start, turn, length, share):
    """r e^(i a) to r e^(i (a + turn)): r e^(i (a + share turn)), whichever way the turn goes."""
    points = [length * cmath.exp(1j * angle) for angle in (start, start + turn, start + share * turn)]
    first, second, expected = (np.array([[z.real, z.imag]]) for z in points)
    # Near opposite directions the rounding of the angle is multiplied by 1 / sin(theta), at most 25 here.
    np.testing.assert_allclose(spherical_interpolation(first, second, share), expected, atol=1e-13 * length)


def test_latents_of_any_lengths_are_weighed_as_the_paper_does():
    """Eq. 67 word for word, by the arc cosine, of an image and of each of several examples by itself."""
    first, second = np.random.default_rng(0).normal(size=(2, 4, 3, 5, 2)) * [[[1.0, 3.0]]]
    for share in (0.0, 0.3, 1.0):
        mixed = spherical_interpolation(first, second, share)
        for x, y, between in zip(first, second, mixed, strict=True):
            theta = np.arccos(np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y)))
            expected = (np.sin((1 - share) * theta) * x + np.sin(share * theta) * y) / np.sin(theta)
            np.testing.assert_allclose(between, expected, atol=1e-13)
    np.testing.assert_allclose(spherical_interpolation(first, second, 0.0), first, atol=1e-14)
    np.testing.assert_allclose(spherical_interpolation(first, second, 1.0), second, atol=1e-14)


def test_half_way_between_draws_of_noise_is_as_long_as_noise():
    """Of D = 10,000 dims: sqrt(D) to 3 %, four standard deviations, where a straight line has sqrt(D / 2)."""
    first, second = np.random.default_rng(0).normal(size=(2, 1, 10_000))
    assert np.linalg.norm(spherical_interpolation(first, second, 0.5)) == pytest.approx(100, rel=0.03)
    assert np.linalg.norm((first + second) / 2) == pytest.approx(100 / np.sqrt(2), rel=0.03)


def test_of_one_direction_it_is_the_straight_line():
    x = np.array([[1.0, 2.0]])
    np.testing.assert_allclose(spherical_interpolation(x, 3 * x, 0.25), 1.5 * x, rtol=1e-14)
    np.testing.assert_allclose(spherical_interpolation(x, x + 1e-12, 0.5), x, rtol=1e-11)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([[1.0, 0.0]], [[-2.0, 0.0]], "point opposite ways"),
        ([[0.0, 0.0]], [[1.0, 0.0]], "a latent of zeros"),
        ([[1.0, 0.0]], [[1.0, 0.0, 0.0]], "one shape"),
        ([1.0, 0.0], [0.0, 1.0], "one shape"),
    ],
)
def test_what_has_no_circle_is_refused(first, second, message):
    with pytest.raises(ValueError, match=message):
        spherical_interpolation(first, second, 0.5)
