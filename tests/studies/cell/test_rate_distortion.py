"""The bound read as a progressive code: rates that add up to it, and x_0 errors that are those of epsilon."""

from __future__ import annotations

import math
from itertools import product
from typing import cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from core.bounds import in_levels, rate_distortion, squared_error_of_x_0
from core.objectives import noised_batch
from core.oracles import GaussianMixture
from core.reverse import reverse_process
from core.schedules import cosine, linear
from core.strata import Strata, geometric_strata
from studies.cell.bound import BoundEstimate, TermEstimate, evaluate_bound
from studies.cell.rate_distortion import rate_distortion_rows
from studies.reporting.figures.rate_distortion import rate_and_distortion
from studies.reporting.view import View
from studies.store.reading import Run
from tests.strategies import predictions, schedules
from tests.studies.cell.test_floors import denoiser_terms


def every_step(num_steps: int) -> Strata:
    steps = np.arange(1, num_steps + 1)
    return Strata(steps, steps)


@given(schedules(), st.integers(0, 2**32 - 1))
def test_rates_add_up_to_the_bound(schedule, seed):
    """The rate at t is L_T and all L_{s-1} with s > t: L_T at t = T, and with L_0 the whole bound at t = 1."""
    rng = np.random.default_rng(seed)
    kl, error = rng.exponential(size=(2, schedule.num_steps))
    curve = rate_distortion(every_step(schedule.num_steps), 0.5, kl, error, kl, error)
    assert curve.rate[-1] == 0.5
    assert curve.rate[0] + kl[0] == pytest.approx(0.5 + kl.sum(), rel=1e-13)
    for t in range(1, schedule.num_steps + 1):
        assert curve.rate[t - 1] == pytest.approx(0.5 + math.fsum(kl[t:]), rel=1e-13)
        assert curve.rate_error[t - 1] == pytest.approx(math.sqrt(math.fsum(error[t:] ** 2)), rel=1e-13)


@given(schedules(), predictions, st.integers(0, 2**32 - 1))
def test_rmse_is_that_of_the_x_0_that_the_process_makes(schedule, prediction, seed):
    """sqrt((1 - alpha_bar) / alpha_bar) times the error of epsilon, whatever is predicted."""
    process = reverse_process(schedule, prediction)
    rng = np.random.default_rng(seed)
    x_0, epsilon, output = rng.standard_normal((3, schedule.num_steps, 4))
    t = np.arange(1, schedule.num_steps + 1)
    batch = noised_batch(process, x_0, epsilon, t)
    x_0_hat = process.x_0_hat(batch.x_t, output, t)
    # epsilon as the process makes it, so that rounding in x_0_hat is the only difference
    mse = np.mean((epsilon - process.epsilon_hat(batch.x_t, output, t)) ** 2, axis=1)
    of_x_0 = squared_error_of_x_0(schedule, mse, t)
    curve = rate_distortion(every_step(schedule.num_steps), 0.0, mse, mse, of_x_0, 0.1 * of_x_0)
    expected = np.sqrt(np.mean((x_0 - x_0_hat) ** 2, axis=1))
    # At the start of the chain epsilon_hat is a small difference over a small noise: 1e-15 / noise of it is rounding.
    np.testing.assert_allclose(curve.rmse, expected, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(curve.rmse_error, 0.05 * curve.rmse, rtol=1e-12)


def test_a_stratum_is_the_mean_of_its_steps():
    """With the same KL at every step of a stratum, strata and single steps agree; the x_0 error is any at each step."""
    strata = geometric_strata(200, growth=0.3)
    rng = np.random.default_rng(0)
    kl, mse = rng.exponential(size=len(strata)), rng.exponential(size=200)
    of_step = np.repeat(np.arange(len(strata)), strata.size)
    zero, zeros = np.zeros(200), np.zeros(len(strata))
    fine = rate_distortion(every_step(200), 1.0, kl[of_step], zero, mse, zero)
    coarse = rate_distortion(strata, 1.0, kl, zeros, np.bincount(of_step, mse) / strata.size, zeros)
    for h in range(len(strata)):
        inside = of_step == h
        assert coarse.rate[h] == pytest.approx(fine.rate[inside].mean(), rel=1e-12)
        assert coarse.rmse[h] ** 2 == pytest.approx(np.mean(fine.rmse[inside] ** 2), rel=1e-12)


@pytest.mark.parametrize("off", [0.0, 0.1])
@pytest.mark.parametrize("schedule", [cosine(1000), linear(1000)], ids=str)
def test_distortion_of_the_exact_denoiser_of_a_gaussian(schedule, off):
    """E Var(x_0 | x_t) = 1 / (1 / s^2 + SNR) for data N(0, s^2), at every t: 0.5 at the end of the chain for s = 0.5.

    An error `off` of epsilon adds off^2 / SNR, which grows over the last cosine steps by 4 orders of magnitude. Of 312
    values none is more than 5 of its own standard errors off. They are of seeds that stay, and rest on as few as 4
    draws: exact normals would be that far off once in 5,000 such tests.
    """
    process, std = reverse_process(schedule), 0.5
    gaussian = GaussianMixture(np.ones(1), np.zeros((1, 2)), np.full((1, 2), std**2))
    snr = np.exp(schedule.log_snr[1:])
    truth = 1 / (1 / std**2 + snr) + off**2 / snr
    z = []
    for seed in range(5, 11):
        test = np.random.default_rng(seed).standard_normal((100, 2))
        test = std * (test - test.mean(axis=0)) / test.std(axis=0)  # the Gaussian's mean and variance exactly
        estimate = evaluate_bound(denoiser_terms(process, gaussian, off), process, test, seed)
        strata, x_0_mse = estimate.strata, estimate.x_0_mse
        exact = np.array([truth[a - 1 : b].mean() for a, b in zip(strata.first, strata.last, strict=True)])
        z.append((x_0_mse.mean - exact) / x_0_mse.standard_error)
        # What the last stratum scatters by, 4 orders of magnitude more than any other, is its own.
        assert np.all(x_0_mse.standard_error[:-1] < 5 * exact[:-1])
        rows = rate_distortion_rows(estimate, process)
        rmse = [row["value"] for row in rows if row["metric"] == "distortion_at_t"]
        np.testing.assert_allclose(rmse[:40], np.sqrt(exact[:40]), rtol=0.25)
        assert rmse[-1] == pytest.approx(math.sqrt(exact[-1]), rel=0.9)
    assert np.abs(z).max() < 5
    assert 0.7 < np.sqrt(np.mean(np.square(z))) < 1.25


def test_an_estimate_below_0_is_a_distortion_of_0():
    """Its error is then the root of the mean square's own, as it is where the mean square is far below its error."""
    strata, zeros = every_step(4), np.zeros(4)
    curve = rate_distortion(strata, 0.0, zeros, zeros, [-0.01, 0.0, 1e-6, 4.0], [0.04, 0.0, 0.04, 0.04])
    np.testing.assert_allclose(curve.rmse, [0.0, 0.0, 1e-3, 2.0], rtol=1e-15)
    np.testing.assert_allclose(curve.rmse_error, [0.2, 0.0, 0.2, 0.01], rtol=1e-15)


def test_levels_are_counted_from_0():
    """The data's range, 2, is K - 1 levels."""
    for levels in (2, 17, 256):
        assert in_levels(2.0, levels) == pytest.approx(levels - 1)


@pytest.fixture(scope="module")
def estimate() -> BoundEstimate:
    rng = np.random.default_rng(1)
    strata = geometric_strata(100)
    error = np.full(len(strata), 0.01)
    kl, mse = (TermEstimate(rng.exponential(size=len(strata)), error, error) for _ in range(2))
    x_0_mse = TermEstimate(squared_error_of_x_0(linear(100), mse.mean, strata.first), error, error)
    return BoundEstimate(strata, kl, mse, x_0_mse, 0.25, 4, 100, np.full(10, 0.1))


@pytest.mark.parametrize(("levels", "unit", "scale"), [(None, "data units", 1.0), (256, "levels, 0 to 255", 127.5)])
def test_rows(estimate, levels, unit, scale):
    """Rate and distortion add up to the bound; rows by t go with bound_at_t's; the rmse is in levels if any."""
    process = reverse_process(linear(100), levels=levels)
    rows = rate_distortion_rows(estimate, process)
    ends = {row["metric"]: row for row in rows if "t" not in row}
    bits = estimate.nats / (estimate.dims * math.log(2))
    assert ends["rate"]["value"] + ends["distortion"]["value"] == pytest.approx(bits, rel=1e-12)
    assert ends["rmse"]["value"] == pytest.approx(
        scale * math.sqrt(estimate.mse.mean[0] * math.exp(-process.schedule.log_snr[1])), rel=1e-12
    )
    by_t = [row for row in rows if "t" in row]
    assert [(row["t"], row["t_last"]) for row in by_t if row["metric"] == "rate_at_t"] == list(
        zip(estimate.strata.first, estimate.strata.last, strict=True)
    )
    assert {row["unit"] for row in by_t} == {"bits/dim", unit}
    assert all(row["standard_error"] >= 0 for row in rows)
    rates = [row["value"] for row in by_t if row["metric"] == "rate_at_t"]
    assert rates == sorted(rates, reverse=True)


def test_rows_of_a_real_estimate():
    """From evaluate_bound, with every metric at every stratum."""
    process = reverse_process(linear(50))
    test = np.random.default_rng(0).standard_normal((20, 2))

    def terms(draws):
        value = np.mean(draws.epsilon**2, axis=1)
        return value, value / draws.t

    found = evaluate_bound(terms, process, test, 0, evaluations_per_example=30)
    rows = rate_distortion_rows(found, process)
    assert len(rows) == 3 + 2 * len(found.strata)
    assert all(np.isfinite(row["value"]) and np.isfinite(row["standard_error"]) for row in rows)


def test_figure_is_of_the_rows(estimate):
    """Three panels with the means over seeds of every recipe; none where the rows are missing."""
    process, factors = reverse_process(linear(100), levels=17), {"dataset": "digits", "recipe": "epsilon_mse"}
    rows = [
        {**factors, "backend": backend, "seed": seed, **row, "value": row["value"] + seed}
        for backend, seed, row in product(("torch", "keras"), (0, 1), rate_distortion_rows(estimate, process))
    ]
    view = View(cast(Run, None), "digits", pd.DataFrame(rows))
    plot = rate_and_distortion(view)
    assert plot is not None
    assert plot.name == "rate-distortion"
    assert len(plot.data) == 2 * len(estimate.strata)
    expected = [row["value"] + 0.5 for row in rate_distortion_rows(estimate, process) if row["metric"] == "rate_at_t"]
    np.testing.assert_allclose(plot.data.loc[plot.data["backend"] == "keras", "rate_at_t"], expected)
    for panel in plot.panels:
        axes = Figure().subplots()
        panel.draw(axes)
        assert len(axes.get_lines()) == 2
    assert "levels, 0 to 16" in plot.caption
    assert rate_and_distortion(View(cast(Run, None), "digits", pd.DataFrame(rows).query("metric == 'rate'"))) is None
