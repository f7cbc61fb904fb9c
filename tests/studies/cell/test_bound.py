"""The bound's estimator, on made-up terms whose sum over t is known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from core.bounds import prior_kl
from core.reverse import reverse_process
from core.schedules import linear
from studies.cell.bound import evaluate_bound

PROCESS = reverse_process(linear(300), levels=None)
TEST = np.random.default_rng(0).standard_normal((40, 4))
SCALE = np.append(0.0, 1 / np.arange(1, 301))
SLOPE = 1.5


def terms(draws):
    """L = scale_t * mean (epsilon + slope * x_0)^2: differs by step, by example and by noise."""
    value = np.mean((draws.epsilon + SLOPE * draws.x_0) ** 2, axis=1)
    return value, SCALE[draws.t] * value


def truth() -> float:
    """The expected sum over t, mean over the test set: E (epsilon + a)^2 = 1 + a^2."""
    return SCALE.sum() * (1 + SLOPE**2 * np.mean(TEST**2)) + prior_kl(PROCESS.schedule, TEST).mean()


@pytest.fixture(scope="module")
def estimates():
    return [evaluate_bound(terms, PROCESS, TEST, seed, evaluations_per_example=30) for seed in range(400)]


def test_estimate_is_unbiased(estimates):
    """The mean of 400 estimates is the truth: within 4 of its standard errors, a false alarm in 16,000."""
    values = np.array([e.nats for e in estimates])
    assert abs(values.mean() - truth()) < 4 * values.std(ddof=1) / np.sqrt(len(values))


def test_intervals_cover(estimates):
    """95 % intervals cover 95 %: of 400, 368 to 391 (binomial: a false alarm in 100 where coverage is exact)."""
    covered = sum(abs(e.nats - truth()) < 1.96 * e.standard_error for e in estimates)
    assert 368 <= covered <= 391


def test_standard_error_is_the_scatter(estimates):
    """The computed standard error is the scatter over repeats, itself known to 3.5 %; 4 sigma is 14 %."""
    scatter = np.std([e.nats for e in estimates], ddof=1)
    assert np.mean([e.standard_error for e in estimates]) == pytest.approx(scatter, rel=0.14)


@pytest.mark.parametrize("batch_size", [1, 7, 4096])
def test_the_batch_size_changes_nothing(batch_size):
    """Draws are made in one order, whatever the batches that they are evaluated in."""
    one, other = (
        evaluate_bound(terms, PROCESS, TEST, 3, evaluations_per_example=30, batch_size=size)
        for size in (256, batch_size)
    )
    assert one.nats == pytest.approx(other.nats, rel=1e-12)
    assert one.evaluations == other.evaluations


def test_error_with_data_counts_the_test_set(estimates):
    """The total standard error adds the scatter between examples that a fresh test set would bring."""
    per_example = SCALE.sum() * SLOPE**2 * np.mean(TEST**2, axis=1) + prior_kl(PROCESS.schedule, TEST)
    data = per_example.std(ddof=1) / np.sqrt(len(TEST))
    given = np.mean([e.standard_error**2 for e in estimates])
    assert np.mean([e.total_standard_error**2 for e in estimates]) == pytest.approx(given + data**2, rel=0.2)


def test_parts_of_the_error_bar_add_up(estimates):
    """Data, steps and noise are independent: their squares add up to that of the total."""
    for e in estimates[:20]:
        assert e.standard_error**2 == pytest.approx(e.noise_standard_error**2 + e.step_standard_error**2)
        assert e.total_standard_error**2 == pytest.approx(e.standard_error**2 + e.data_standard_error**2)


def test_parts_of_the_error_bar_are_told_apart():
    """Terms without noise have next to no noise error, terms without examples none of steps; no control meddles."""
    noiseless = [_terms_of(lambda d: np.mean(d.x_0**2, axis=1), seed) for seed in range(40)]
    alike = [_terms_of(lambda d: np.exp(0.3 * d.epsilon[:, 0]), seed) for seed in range(40)]
    # An example met again at another step of a stratum counts as a repeat of it.
    assert np.mean([e.noise_standard_error**2 for e in noiseless]) < 0.05 * _mean_square(noiseless)
    # Few repeats tell noise from examples, so that a little of the noise is taken for differences.
    assert np.mean([e.step_standard_error**2 for e in alike]) < 0.15 * _mean_square(alike)
    assert min(_mean_square(noiseless), _mean_square(alike)) > 1e-6


def _mean_square(estimates):
    return np.mean([e.standard_error**2 for e in estimates])


def _terms_of(value, seed):
    def both(draws):
        return value(draws), SCALE[draws.t] * value(draws)

    return evaluate_bound(both, PROCESS, TEST, seed, evaluations_per_example=30, control=lambda d: np.zeros(len(d.t)))


def test_error_of_a_paired_difference(estimates):
    """What another quantity of the same examples explains drops out of the error for fresh data."""
    per_example = SCALE.sum() * SLOPE**2 * np.mean(TEST**2, axis=1) + prior_kl(PROCESS.schedule, TEST)
    given = np.mean([e.standard_error**2 for e in estimates])
    left = np.mean([e.standard_error_of_difference(per_example) ** 2 for e in estimates])
    assert left == pytest.approx(given, rel=0.5)
    assert left < 0.5 * np.mean([e.total_standard_error**2 for e in estimates])


def test_budget_is_kept_and_counted(estimates):
    assert all(e.evaluations == 30 * len(TEST) for e in estimates)


def test_epsilon_mse_is_the_mean_over_uniform_steps(estimates):
    """L_simple on the test set comes from the same draws."""
    values = np.array([e.epsilon_mse[0] for e in estimates])
    exact = 1 + SLOPE**2 * np.mean(TEST**2)
    assert abs(values.mean() - exact) < 4 * values.std(ddof=1) / np.sqrt(len(values))


def test_target_standard_error_is_reached():
    for target in (0.3, 0.1):
        estimate = evaluate_bound(terms, PROCESS, TEST, 0, target_se=target)
        assert estimate.standard_error <= target
        assert estimate.nats == pytest.approx(truth(), abs=5 * target)


def test_same_seed_same_estimate():
    first, second = (evaluate_bound(terms, PROCESS, TEST, 3) for _ in range(2))
    assert first.nats == second.nats


def test_infinite_terms_are_reported():
    """A diverged model has an infinite bound, said as such."""
    estimate = evaluate_bound(lambda d: (terms(d)[0], terms(d)[1] * np.inf), PROCESS, TEST, 0)
    assert estimate.nats == np.inf
