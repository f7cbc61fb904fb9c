"""Sketches of weights: linear, the same wherever they are made, and as far apart as the weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.cell.drift import BUCKETS, as_arrays, sketch, sketched_steps
from studies.reporting.figures.drift import distance

SHAPES = {"in.weight": (3, 3, 8, 16), "in.bias": (16,), "out.weight": (40, 60)}


def weights(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: scale * rng.standard_normal(shape) for name, shape in SHAPES.items()}


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_a_sketch_is_linear(a, b):
    """sketch(a w + b v) = a sketch(w) + b sketch(v), to rounding of sums of ten values."""
    w, v = weights(0), weights(1)
    mixed = sketch({name: a * w[name] + b * v[name] for name in w})
    np.testing.assert_allclose(mixed, a * sketch(w) + b * sketch(v), rtol=0, atol=1e-12)


def test_the_order_of_names_and_the_framework_s_dtype_change_nothing():
    w = weights(0)
    single = {name: w[name].astype(np.float32) for name in reversed(list(w))}
    double = {name: single[name].astype(np.float64) for name in w}
    np.testing.assert_array_equal(sketch(single), sketch(double))


def test_signs_and_buckets_are_drawn_once_and_for_all():
    """Every weight lands in one bucket with its own sign: the sketch of a unit vector is +-1 in one place."""
    for position in (0, 7, 2399):
        one = {"out.weight": np.zeros((40, 60))}
        one["out.weight"].ravel()[position] = 1.0
        found = sketch(one)
        assert np.abs(found).sum() == 1
        np.testing.assert_array_equal(found, sketch(one))


@pytest.mark.parametrize("apart", [1e-9, 1e-3, 1.0])
def test_sketches_are_as_far_apart_as_the_weights(apart):
    """Relative sd of a sketched norm: 1 / sqrt(2 BUCKETS) = 2.2 %. Five sd over 20 pairs: chance 1e-5."""
    errors = []
    for seed in range(20):
        w, step = weights(seed), weights(1000 + seed, scale=apart)
        moved = {name: w[name] + step[name] for name in w}
        flat, other = (np.concatenate([one[name].ravel() for name in one]) for one in (w, moved))
        true = np.linalg.norm(flat - other) / np.sqrt(np.linalg.norm(flat) * np.linalg.norm(other))
        errors.append(float(distance(sketch(w), sketch(moved))) / true - 1)
    assert np.max(np.abs(errors)) < 5 * np.sqrt(2) / np.sqrt(2 * BUCKETS)
    assert abs(np.mean(errors)) < 0.02


def test_steps_begin_and_end_with_training_and_are_few():
    for train_steps in (1, 2, 24, 3500, 1_000_000):
        steps = sorted(sketched_steps(train_steps))
        assert steps[0] == 1
        assert steps[-1] == train_steps
        assert len(steps) <= 20


def test_arrays_are_in_the_order_of_steps():
    kept = as_arrays({5: np.full(3, 5.0), 1: np.ones(3)}, 10)
    assert kept["steps"].tolist() == [1, 5]
    assert kept["sketches"][:, 0].tolist() == [1.0, 5.0]
    assert kept["parameters"] == 10


def test_signs_and_buckets_are_these():
    """Sketches that cells stored before are compared with those of cells run today."""
    found = sketch({"a": np.array([1.0, 2.0, 3.0])})
    assert {int(i): float(found[i]) for i in np.flatnonzero(found)} == {181: 2.0, 201: -1.0, 409: 3.0}


def test_distances_are_taken_sketch_by_sketch():
    """Of sketches (P, BUCKETS) each row has its own: |w - w'| / sqrt(|w| |w'|), worked out by hand."""
    one, other = np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([[0.0, 5.0], [0.0, 4.0]])
    np.testing.assert_allclose(distance(one, other), [np.sqrt(10) / 5, 3 / 2], rtol=1e-15)
