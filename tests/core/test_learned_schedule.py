"""The learned schedule: its start, its limits, its gradient, and its loss against the exact bound."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bounds import prior_kl
from core.learned_schedule import LearnedSchedule, check_learnable
from core.objectives import noised_batch, posterior_kl, training_loss
from core.oracles import GaussianMixture, optimal_output
from core.reverse import reverse_process
from core.schedules import cosine, linear
from core.variances import FIRST_VARIANCES, VARIANCES
from tests.strategies import predictions, schedules

SAMPLING_ONLY = ("multistep_blend",)


@st.composite
def moved(draw, size=20.0, min_steps=2):
    """A family of schedules and any parameters of it."""
    learned = LearnedSchedule(
        draw(schedules(min_steps=min_steps)), draw(st.floats(0, 4)), draw(st.floats(0, 4)), draw(st.integers(1, 6))
    )
    values = draw(st.lists(st.floats(-size, size), min_size=learned.size, max_size=learned.size))
    return learned, np.array(values)


def assert_same_tables(tables, expected, tolerance):
    for field in fields(tables):
        if field.name not in SAMPLING_ONLY:
            got, want = getattr(tables, field.name)[1:], getattr(expected, field.name)[1:]
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=field.name)


@given(schedules(min_steps=2), predictions, st.sampled_from([*VARIANCES]), st.sampled_from([*FIRST_VARIANCES]))
def test_it_starts_at_its_start(schedule, prediction, variance, first_variance):
    """Parameters 0 give every table that `reverse_process` makes by another way."""
    family = reverse_process(schedule, prediction, variance, first_variance=first_variance)
    learned = LearnedSchedule(schedule)
    log_snr, falls = learned.log_snr_and_falls(learned.initial())
    np.testing.assert_allclose(log_snr, schedule.log_snr[1:], rtol=0, atol=1e-14 * falls.sum())
    np.testing.assert_allclose(falls[1:], -np.diff(schedule.log_snr[1:]), rtol=1e-14)
    # A fall is a difference of log SNRs, each 1e-14 off: that is its relative error, over the least fall there is.
    tolerance = 1e-12 + 1e-13 / falls[1:].min()
    assert_same_tables(learned.steps(family, learned.initial()).tables, family.tables, tolerance)


@pytest.mark.parametrize("schedule", [linear(1000), cosine(1000), linear(40, 1e-3, 0.4)], ids=str)
@pytest.mark.parametrize("variance", VARIANCES)
def test_it_starts_at_the_named_schedules(schedule, variance):
    """Within 1e-12 relative."""
    family = reverse_process(schedule, "epsilon", variance)
    learned = LearnedSchedule(schedule)
    assert_same_tables(learned.steps(family, learned.initial()).tables, family.tables, 1e-12)


def test_how_far_it_reaches():
    """An end by 3 nats, a knot by e^4 up or down before the rescaling, and 16 knots, unless asked otherwise."""
    start = linear(1000)
    learned = LearnedSchedule(start)
    assert learned.size == 2 + 16
    for sign in (-1, 1):
        parameters = np.zeros(18)
        parameters[:2] = sign * 1e12
        log_snr, _ = learned.log_snr_and_falls(parameters)
        np.testing.assert_allclose(log_snr[[0, -1]] - start.log_snr[[1, -1]], 3 * sign, rtol=1e-9)
    parameters = np.zeros(18)
    parameters[2], parameters[-1] = 1e12, -1e12
    _, falls = learned.log_snr_and_falls(parameters)
    scale = falls[1:] / -np.diff(start.log_snr[1:])
    assert scale[0] / scale[-1] == pytest.approx(np.exp(8), rel=1e-9)
    parameters[2] = 3.0  # x / sqrt(1 + x^2) of the way
    _, falls = learned.log_snr_and_falls(parameters)
    scale = falls[1:] / -np.diff(start.log_snr[1:])
    assert scale[0] / scale[-1] == pytest.approx(np.exp(4 + 12 / np.sqrt(10)), rel=1e-9)


@given(moved(size=1e6))
def test_log_snr_falls_and_its_ends_keep_their_limits(case):
    """For any parameters: strictly falling, ends within reach; the frozen schedule is that one."""
    learned, parameters = case
    log_snr, falls = learned.log_snr_and_falls(parameters)
    assert np.all(falls[1:] > 0)
    schedule = learned.frozen(parameters)
    np.testing.assert_allclose(schedule.log_snr[1:], log_snr, atol=1e-12)
    np.testing.assert_allclose(-np.diff(log_snr), falls[1:], rtol=1e-9, atol=1e-12)
    start = learned.start.log_snr
    quarter = (start[1] - start[-1]) / 4
    assert abs(log_snr[0] - start[1]) <= min(learned.first_reach, quarter) + 1e-12
    assert abs(log_snr[-1] - start[-1]) <= min(learned.last_reach, quarter) + 1e-12


@given(moved(size=3.0), predictions, st.sampled_from([*VARIANCES]), st.sampled_from([*FIRST_VARIANCES]))
def test_tables_are_those_of_the_frozen_schedule(case, prediction, variance, first_variance):
    """Two ways from parameters to tables: through log SNR and softplus, and through betas and their running sum."""
    learned, parameters = case
    family = reverse_process(learned.start, prediction, variance, first_variance=first_variance)
    frozen = reverse_process(learned.frozen(parameters), prediction, variance, first_variance=first_variance)
    falls = learned.log_snr_and_falls(parameters)[1]
    tolerance = 1e-11 + 1e-12 / falls[1:].min()
    assert_same_tables(learned.steps(family, parameters).tables, frozen.tables, tolerance)


def test_there_is_no_schedule_until_it_is_frozen():
    """Whoever reads one from steps in training is refused; all else is as in the family."""
    learned = LearnedSchedule(linear(30))
    family = reverse_process(learned.start, "v", "learned_range", levels=17)
    steps = learned.steps(family, np.linspace(-1, 1, learned.size))
    with pytest.raises(AttributeError, match="schedule"):
        steps.schedule  # noqa: B018
    assert (steps.prediction, steps.variance, steps.levels) == (family.prediction, family.variance, 17)
    assert steps.num_steps == family.num_steps == 30


@given(moved(size=3.0), st.integers(0, 2**32 - 1))
def test_prior_loss_is_the_prior_kl(case, seed):
    """L_T of the frozen schedule, per dim and step."""
    learned, parameters = case
    x_0 = np.random.default_rng(seed).normal(size=(3, 2, 1))
    got = learned.prior_loss(parameters, x_0) * learned.start.num_steps * 2
    np.testing.assert_allclose(got, prior_kl(learned.frozen(parameters), x_0), rtol=1e-11)


def test_the_loss_is_the_exact_bound_on_a_gaussian():
    """L_T + L_{t-1} + L_0 of a Gaussian with its exact denoiser and variance: its entropy, but for the decoder's error.

    With a learned diagonal at its optimum every KL is that of two normals with the chain's own conditionals, so the
    bound is -log p(x_0) + KL(q(x_T) || N(0, I)) for every schedule of the family.
    """
    learned = LearnedSchedule(linear(30, 1e-3, 0.5), max_knots=4)
    family = reverse_process(learned.start, "x_0", "learned_diagonal")
    data = GaussianMixture([1.0], [[0.3]], [0.5])
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / weights.sum()
    x_0, epsilon = (array.reshape(-1, 1) for array in np.meshgrid(0.3 + np.sqrt(0.5) * nodes, nodes, indexing="ij"))
    joint = np.outer(weights, weights).ravel()
    for parameters in (learned.initial(), np.array([0.5, -0.7, 1.0, -1.0, 0.3, 0.8])):
        process = learned.steps(family, parameters)
        frozen = reverse_process(learned.frozen(parameters), "x_0", "learned_diagonal")
        total = learned.prior_loss(parameters, x_0) * 30 @ joint
        for t in range(1, 31):
            steps = np.full(len(x_0), t)
            batch = noised_batch(process, x_0, epsilon, steps)
            output = optimal_output(frozen, data, batch.x_t, steps)
            total += training_loss(process, "posterior_kl", batch, output) @ joint
        last = data.marginal(frozen.schedule, 30)
        mean, variance = last.means.item(), last.variances.item()
        expected = data.entropy() + 0.5 * (variance + mean**2 - 1 - np.log(variance))
        assert total == pytest.approx(expected, abs=1e-10)


@given(moved(size=2.0, min_steps=3), st.integers(0, 2**32 - 1))
def test_the_way_of_falls_keeps_float32(case, seed):
    """In float32 log SNR is within a few roundings of its float64 value, and falls within a few of their own size."""
    learned, parameters = case
    exact = learned.log_snr_and_falls(parameters)
    single = learned.log_snr_and_falls(parameters.astype(np.float32), Float32)
    size = np.abs(learned.start.log_snr[1:]).max() + 4
    np.testing.assert_allclose(single[0], exact[0], rtol=0, atol=32 * 6e-8 * size)
    np.testing.assert_allclose(single[1], exact[1], rtol=64 * 6e-8)


class Float32:
    """numpy in float32."""

    asarray = staticmethod(lambda x: np.asarray(x, np.float32))
    integers = staticmethod(lambda x: np.asarray(x, np.int64))
    exp, sqrt, take, sum, cumsum = np.exp, np.sqrt, np.take, np.sum, np.cumsum


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: LearnedSchedule(linear(1)), "a learned schedule has at least 2 steps, got 1"),
        (
            lambda: LearnedSchedule(linear(5), first_reach=-1),
            "the reach of an end is at least 0 and there is at least 1 knot, got -1, 3.0 and 16",
        ),
        (
            lambda: check_learnable("epsilon_mse"),
            "a learned schedule needs posterior_kl, whose loss is the bound, got epsilon_mse: its best schedule is "
            "degenerate, since the loss of a step falls as the step is made easier",
        ),
    ],
)
def test_bad_input(act, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        act()
    assert str(caught.value) == message


def test_the_bound_is_what_posterior_kl_trains():
    """check_learnable lets the one objective pass whose mean over t, times T, is the bound."""
    check_learnable("posterior_kl")
    family = reverse_process(linear(4))
    batch = noised_batch(family, np.ones((4, 2)), np.ones((4, 2)), np.arange(1, 5))
    output = np.zeros((4, 2))
    np.testing.assert_allclose(
        2 * training_loss(family, "posterior_kl", batch, output), posterior_kl(family, batch, output)
    )


def test_a_frozen_schedule_says_where_it_came_from():
    learned = LearnedSchedule(linear(5))
    assert learned.frozen(learned.initial()).name == "learned from linear(0.0001, 0.02)"
