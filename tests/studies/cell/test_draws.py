"""Draws are pure functions of (seed, purpose, index)."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from studies.cell.draws import batch_indices, generator, sampler_noise, starting_noise, training_draws

X = np.arange(50.0).reshape(50, 1)
PINNED = {
    "x_0": [15.0, 26.0, 9.0, 39.0],
    "t": [56, 50, 9, 81],
    "epsilon": [0.0589976452962, 1.3331279030108, -1.9673764817645, -1.6535252273453],
    "stratified": [14, 38, 53, 96],
    "importance": [75, 71, 29, 90],
    "x_T": [-0.2491749166044, 1.3233674997579],
    "added": [0.586366968465, -0.2018164652672],
}


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


def test_streams_are_these_numbers():
    """The numbers themselves: a study's results are the same from one version of the code to the next, draw by draw."""
    key = np.random.SeedSequence([3, *b"t"]).generate_state(2, np.uint64)
    philox = np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 5, 0], np.uint64)))
    assert generator(3, "t", 5).random() == philox.random()
    assert generator(3, "t").random() == generator(3, "t", 0).random()
    draws = training_draws(X, 3, 5, 4, 100)
    assert draws.x_0.ravel().tolist() == PINNED["x_0"]
    assert draws.t.tolist() == PINNED["t"]
    np.testing.assert_allclose(draws.epsilon.ravel(), PINNED["epsilon"], rtol=0, atol=1e-12)
    assert training_draws(X, 3, 5, 4, 100, "stratified").t.tolist() == PINNED["stratified"]
    learned = training_draws(X, 3, 5, 4, 100, "importance", np.arange(1, 101) / 5050)
    assert learned.t.tolist() == PINNED["importance"]
    np.testing.assert_allclose(learned.weight, 5050 / (100 * np.array(PINNED["importance"])), rtol=1e-12)
    np.testing.assert_allclose(starting_noise(3, "ddim-50", 2, (1,)).ravel(), PINNED["x_T"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(sampler_noise(3, "ddim-50", 2, (1,), 7).ravel(), PINNED["added"], rtol=0, atol=1e-12)
