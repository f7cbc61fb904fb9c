"""Draws are pure functions of (seed, purpose, index)."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from studies.cell.draws import batch_indices, generator, sampler_noise, starting_noise, training_draws

X = np.arange(50.0).reshape(50, 1)


@given(st.integers(0, 2**31), st.text("abc ", min_size=1, max_size=9), st.integers(0, 2**40))
def test_a_stream_is_its_key(seed, purpose, index):
    here = generator(seed, purpose, index).random(4)
    assert np.array_equal(here, generator(seed, purpose, index).random(4))
    for other in ((seed + 1, purpose, index), (seed, purpose, index + 1), (seed, purpose + "d", index)):
        assert not np.array_equal(here, generator(*other).random(4))


@given(st.integers(0, 99), st.integers(1, 40), st.integers(2, 60))
def test_epochs_are_permutations(seed, batch_size, count):
    """Consecutive batches run through every example once before any comes again."""
    steps = -(-2 * count // batch_size)
    seen = np.concatenate([batch_indices(seed, step, batch_size, count) for step in range(1, steps + 1)])
    assert sorted(seen[:count]) == list(range(count))
    assert sorted(seen[count : 2 * count]) == list(range(count))


@given(st.integers(1, 1000), st.sampled_from(["uniform", "stratified"]))
def test_training_draws_do_not_depend_on_what_came_before(step, how):
    first, second = (training_draws(X, 3, step, 16, 100, how) for _ in range(2))
    for name in ("x_0", "epsilon", "t", "weight"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert first.t.min() >= 1
    assert first.t.max() <= 100


def test_how_t_is_drawn_changes_neither_data_nor_noise():
    uniform, stratified = (training_draws(X, 3, 5, 16, 100, how) for how in ("uniform", "stratified"))
    assert np.array_equal(uniform.x_0, stratified.x_0)
    assert np.array_equal(uniform.epsilon, stratified.epsilon)


def test_noise_is_standard_normal():
    """Mean and variance of 40,000 values within 5 standard errors: a false alarm in a million."""
    noise = np.concatenate([sampler_noise(0, "ddim-50", 40, (10,), t) for t in range(1, 100)])
    noise = np.concatenate([noise, starting_noise(0, "ddim-50", 40, (10,))]).ravel()
    assert abs(noise.mean()) < 5 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 5 * np.sqrt(2 / noise.size)
