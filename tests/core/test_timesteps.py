"""Draws of t: unbiased for the mean over 1..T, and evenly spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.timesteps import SecondMoments, importance, stratified, uniform

num_steps_ = st.integers(1, 60)
positive_lists = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30)


def fine_u(cells):
    """The midpoints of `cells` equal parts of [0, 1): a sum over them is an integral over u where t is constant."""
    return (np.arange(cells) + 0.5) / cells


@given(num_steps_)
def test_uniform_is_uniform(num_steps):
    """Each t gets 1/T of u, and weight 1."""
    draw = uniform(fine_u(10 * num_steps), num_steps)
    np.testing.assert_array_equal(np.bincount(draw.t, minlength=num_steps + 1), [0] + num_steps * [10])
    assert np.all(draw.weight == 1)


@given(positive_lists, st.integers(0, 2**32 - 1))
def test_importance_is_unbiased(sizes, seed):
    """The sum of P(t) * weight * loss is the mean loss over t, and P(t) is what was asked for."""
    p = np.array(sizes) / np.sum(sizes)
    num_steps = len(p)
    loss = np.random.default_rng(seed).exponential(size=num_steps)
    cells = 20000
    draw = importance(fine_u(cells), p)
    share = np.bincount(draw.t - 1, minlength=num_steps) / cells
    np.testing.assert_allclose(share, p, atol=1 / cells)  # each end of an interval of u is off by half a cell
    one_each = importance((np.cumsum(p) - p / 2), p)  # the middle of each t's share of u
    np.testing.assert_array_equal(one_each.t, np.arange(1, num_steps + 1))
    assert np.sum(p * one_each.weight * loss) == pytest.approx(loss.mean(), rel=1e-13)


@given(st.integers(1, 40), num_steps_, st.integers(0, 2**32 - 1))
def test_stratified_covers_evenly(count, num_steps, seed):
    """N draws put in every run of steps what uniform would, give or take one; each of N parts of 1..T gets its own."""
    u = np.random.default_rng(seed).random(count)
    draw = stratified(u, num_steps)
    assert np.all(np.diff(draw.t) >= 0)
    counts = np.bincount(draw.t, minlength=num_steps + 1)[1:]
    below = np.cumsum(counts)
    assert np.all(np.abs(below - count * np.arange(1, num_steps + 1) / num_steps) < 1 + 1e-9)
    if count % num_steps == 0:
        assert np.all(counts == count // num_steps)
    assert np.all(draw.weight == 1)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_stratified_is_unbiased(count, num_steps, seed):
    """Integrated over u, the mean of the drawn losses is the mean over t."""
    loss = np.random.default_rng(seed).exponential(size=num_steps)
    cells = num_steps  # within a stratum t changes at multiples of 1 / T of u only
    mean = np.mean([loss[stratified(np.full(count, u), num_steps).t - 1].mean() for u in fine_u(cells)])
    assert mean == pytest.approx(loss.mean(), rel=1e-13)


@pytest.mark.parametrize("num_steps", [1, 3, 1000, 4000])
def test_the_ends_of_u(num_steps):
    """u = 0 is step 1, and the largest u below 1 is step T, for every kind of draw."""
    u = np.array([0.0, np.nextafter(1.0, 0.0)])
    for draw in (uniform(u, num_steps), importance(u, np.full(num_steps, 1 / num_steps))):
        assert draw.t.tolist() == [1, num_steps]
    assert stratified(u, num_steps).t.tolist()[-1] == num_steps
    assert stratified(np.array([np.nextafter(1.0, 0.0)]), num_steps).t.tolist() == [num_steps]


def test_u_at_a_boundary_belongs_to_the_right():
    """[0, P(1)) is step 1, [P(1), P(1) + P(2)) step 2: as u < 1 is."""
    assert importance([0.0, 0.5, 0.75], [0.5, 0.25, 0.25]).t.tolist() == [1, 2, 3]
    assert uniform([0.0, 0.25, 0.5, 0.75], 4).t.tolist() == [1, 2, 3, 4]


def test_probabilities_in_float32_leave_no_bias():
    """Probabilities that sum to 1 within float32's rounding are normalised, so that weights stay exactly unbiased."""
    p = np.full(1000, 1e-3, np.float32) * np.float32(1 + 5e-7)
    draw = importance(fine_u(1000), p)
    np.testing.assert_allclose(draw.weight, 1, rtol=1e-12)


@pytest.mark.parametrize(
    "p", [[0.5, 0.4], [1.0, 0.0], [1.5, -0.5], [np.nan, 1.0], [], [[1.0]], [0.5, 0.500005]], ids=str
)
def test_bad_probabilities(p):
    with pytest.raises(ValueError, match=r"^probabilities of t \(T,\) are positive and sum to 1, got shape "):
        importance([0.5], p)


def test_second_moments_by_hand():
    """The last `history` losses per t; warm once all are full; P(t) proportional to their root mean square."""
    moments = SecondMoments.empty(2, history=2)
    assert not moments.warm
    np.testing.assert_array_equal(moments.probabilities(), [0.5, 0.5])
    moments = moments.recorded(np.array([1, 1, 1, 2]), [5.0, 3.0, 4.0, 1.0])
    assert not moments.warm
    moments = moments.recorded(np.array([2]), [-1.0])
    assert moments.warm
    np.testing.assert_array_equal(moments.losses, [[3, 4], [1, -1]])
    root = np.array([np.sqrt(12.5), 1.0])
    np.testing.assert_allclose(moments.probabilities(0.0), root / root.sum(), rtol=1e-15)
    np.testing.assert_allclose(moments.probabilities(0.1), 0.9 * root / root.sum() + 0.05, rtol=1e-15)


def test_importance_sampling_as_published():
    """Nichol & Dhariwal (2021), sec. 3.3: uniform until each t has 10 losses, then by its last 10; 0.1 % uniform."""
    nine = SecondMoments.empty(2).recorded(np.repeat([1, 2], [10, 9]), [1000.0] + 9 * [3.0] + 9 * [1.0])
    assert not nine.warm
    np.testing.assert_array_equal(nine.probabilities(), [0.5, 0.5])
    ten = nine.recorded(np.array([2, 1]), [1.0, 3.0])  # the 1000 is the eleventh from the end, and no longer counts
    assert ten.warm
    np.testing.assert_allclose(ten.probabilities(), [0.999 * 0.75 + 0.0005, 0.999 * 0.25 + 0.0005], rtol=1e-15)
    np.testing.assert_allclose(importance([0.0, 0.9], ten.probabilities()).weight, [2 / 2.999, 2 / 1.001], rtol=1e-14)


@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 2**32 - 1), st.floats(1e-6, 1))
def test_second_moments_are_probabilities(num_steps, history, seed, share):
    """They sum to 1, none is below its uniform share, and importance takes them; recording changes no earlier value."""
    rng = np.random.default_rng(seed)
    moments = SecondMoments.empty(num_steps, history)
    for _ in range(history):
        before = moments.losses.copy()
        later = moments.recorded(rng.permutation(num_steps) + 1, rng.exponential(size=num_steps))
        np.testing.assert_array_equal(moments.losses, before)
        moments = later
    assert moments.warm
    p = moments.probabilities(share)
    assert p.sum() == pytest.approx(1, rel=1e-14)
    assert p.min() >= share / num_steps * (1 - 1e-15)
    importance([0.5], p)


def test_losses_of_zero_leave_t_uniform():
    moments = SecondMoments.empty(4, 1).recorded(np.arange(1, 5), np.zeros(4))
    np.testing.assert_array_equal(moments.probabilities(), np.full(4, 0.25))


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_diverged_loss_is_not_recorded(loss):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        SecondMoments.empty(3).recorded(np.array([1]), [loss])
    assert str(caught.value) == "a loss recorded for importance sampling is not finite; training has diverged"


@pytest.mark.parametrize("t", [0, 4, -1])
def test_a_step_outside_the_chain_is_not_recorded(t):
    with pytest.raises(ValueError, match=rf"^steps run from 1 to 3, got {t}; step 0 is the data$"):
        SecondMoments.empty(3).recorded(np.array([1, t]), [1.0, 1.0])


def test_a_history_takes_one_loss_a_step():
    """Fewer losses than steps is an error, and not a history with holes."""
    with pytest.raises(ValueError, match="shorter"):
        SecondMoments.empty(3).recorded(np.array([1, 2]), [1.0])
