"""The reference namespace makes float64 and int64 of whatever comes."""

from __future__ import annotations

import numpy as np
import pytest

from core.arrays import NUMPY


@pytest.mark.parametrize("given", [[1, 2], np.array([1, 2], np.float32), np.array([True, True])])
def test_the_reference_works_in_float64(given):
    """Whole numbers, narrower floats and booleans become float64 of the same values."""
    made = NUMPY.asarray(given)
    assert made.dtype == np.float64
    np.testing.assert_array_equal(made, np.array(given, np.float64))


@pytest.mark.parametrize("given", [[1.0, 2.0], np.array([1, 2], np.int32)])
def test_indices_are_int64(given):
    """Steps that came as floats or as narrower integers index a table all the same."""
    made = NUMPY.integers(given)
    assert made.dtype == np.int64
    assert np.arange(10.0)[made].tolist() == [1.0, 2.0]
