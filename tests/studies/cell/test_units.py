"""Likelihoods of scaled data are those of the data as they came, by the change of variables."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from backends.networks import MLPSettings
from core.objectives import noised_batch, posterior_kl
from core.oracles import GaussianMixture, optimal_output
from core.reverse import reverse_process
from core.schedules import linear
from studies.cell.likelihood import likelihood
from studies.cell.model import TrainedModel
from studies.cell.units import BY_T, LOG_DENSITIES, UNIT, in_units_of_file
from studies.datasets import load_dataset
from studies.metrics.vocabulary import VOCABULARY
from studies.plan.settings import StudySettings
from tests.studies.cell.test_floors import denoiser_terms
from tests.studies.cell.test_probability_flow import gaussian_field

MEAN, STD = np.array([5.0, -300.0]), np.array([0.02, 400.0])
UNIT_GAUSSIAN = GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 1.0]])
SIGNS = np.array(list(product([-1.0, 1.0], repeat=2)))
"""Points, and noise, with a unit Gaussian's mean and covariance: what is quadratic averages over them as over it."""
NOT_DENSITIES = {
    "bound_total_se", "bound_data_se", "bound_step_se", "bound_noise_se", "bound_diffusion", "bound_prior",
    "bound_above_entropy", "bound_above_floor", "bound_above_floor_at_t", "rate", "rate_at_t", "flow_minus_bound",
    "flow_minus_bound_total_se",
    *(f"flow_{end}_{what}" for end in ("decoder", "uniform", "density")
      for what in ("total_se", "probe_se", "solver_change", "tolerance")),
    "flow_uniform",  # of data on levels, which are not scaled
}  # fmt: skip
"""Errors, differences and KLs in bits/dim."""


def rows_of(folder, x, scale, terms=None, variance="learned_diagonal", **settings):
    """All rows of the unit Gaussian's exact denoiser as the model of a file with the data `x`."""
    np.savez(folder / "x.npz", train=x, test=x)
    dataset = load_dataset(str(folder / "x.npz"), scale=scale)
    process = reverse_process(linear(1000).respaced(9), variance=variance)
    placed = SimpleNamespace(
        process=process,
        bound_terms=lambda: terms or denoiser_terms(process, UNIT_GAUSSIAN),
        flow_field=lambda: gaussian_field(UNIT_GAUSSIAN),
        network=SimpleNamespace(settings=MLPSettings((2,))),
        execution=SimpleNamespace(device="cpu"),
    )
    stages = likelihood(TrainedModel(placed, (2,), 0), dataset, StudySettings(**settings), lambda *_: None)
    return [row for measure in stages.values() for row in measure()]


def exact_terms(draws):
    """The mean of the denoiser's KL over the noise, to rounding: it is quadratic in it."""
    process = reverse_process(linear(1000).respaced(9), variance="learned_diagonal")
    kl = 0.0
    for sign in SIGNS:
        batch = noised_batch(process, draws.x_0, np.broadcast_to(sign, draws.x_0.shape), draws.t)
        kl = kl + posterior_kl(process, batch, optimal_output(process, UNIT_GAUSSIAN, batch.x_t, draws.t)) / len(SIGNS)
    return kl, kl


def test_the_bound_of_a_gaussian_is_its_entropy_in_its_own_units(tmp_path):
    """Of N(m, s^2), scaled by `standard`, the exact denoiser's bound is scipy's entropy of the unscaled density.

    Scaled it is N(0, 1), which the chain leaves as it is, so that nothing is added to the entropy.
    """
    y = MEAN + STD * np.tile(SIGNS, (10, 1))
    bound = {row["metric"]: row["value"] for row in rows_of(tmp_path, y, "standard", exact_terms, flow_examples=0)}
    entropy = stats.norm.entropy(loc=MEAN, scale=STD).mean() / np.log(2)
    assert bound["bound"] == pytest.approx(entropy, abs=1e-9)
    terms = [bound[f"bound_{part}"] for part in ("prior", "diffusion", "decoder")]
    assert sum(terms) == pytest.approx(bound["bound"], abs=1e-12)
    assert bound["rate"] + bound["distortion"] == pytest.approx(bound["bound"], abs=1e-12)


@pytest.mark.parametrize("scale", ["standard", "minmax"])
def test_a_density_moves_by_the_mean_log_factor_and_nothing_else_does(tmp_path, scale):
    """All rows of a file beside those of the same data scaled by hand."""
    rng = np.random.default_rng(0)
    y = MEAN + STD * rng.standard_normal((40, 2))
    if scale == "standard":
        centre, factor = y.mean(axis=0), y.std(axis=0)
    else:
        centre, factor = (y.max(axis=0) + y.min(axis=0)) / 2, (y.max(axis=0) - y.min(axis=0)) / 2
    more = float(np.log2(factor).mean())
    ours = rows_of(tmp_path, y, scale, variance="beta_tilde", flow_examples=4)
    by_hand = rows_of(tmp_path, (y - centre) / factor, "none", variance="beta_tilde", flow_examples=4)
    moved = set()
    for row, plain in zip(ours, by_hand, strict=True):
        assert (row["metric"], row.get("t")) == (plain["metric"], plain.get("t"))
        if row["metric"].endswith("seconds"):
            continue
        difference = row["value"] - plain["value"]
        if abs(difference) > 1e-6:
            moved.add((row["metric"], row.get("t")))
            assert difference == pytest.approx(more, abs=1e-6), row
        assert row.get("standard_error", 0) == pytest.approx(plain.get("standard_error", 0), rel=1e-6, abs=1e-9)
        assert (row["unit"] != plain["unit"]) == (plain["unit"] == UNIT), row
    names = ("bound", "bound_decoder", "bound_floor", "distortion", "flow_bound", "flow_decoder")
    assert moved == {*((name, None) for name in names), ("bound_at_t", 1), ("bound_floor_at_t", 1)}


def test_every_metric_in_bits_is_a_density_or_is_not():
    """A new one is put on one side or the other."""
    in_bits = {name for name, quantity in VOCABULARY.items() if quantity.unit == "bits/dim"}
    assert in_bits == LOG_DENSITIES | BY_T | NOT_DENSITIES
    assert not (LOG_DENSITIES | BY_T) & NOT_DENSITIES


def test_rows_of_data_that_were_not_scaled_are_as_they_were(tmp_path):
    np.savez(tmp_path / "x.npz", train=SIGNS, test=SIGNS)
    rows = [{"metric": "bound", "value": 1 / 3, "unit": "bits/dim"}, {"metric": "rmse", "value": 0.1, "unit": UNIT}]
    assert in_units_of_file(rows, load_dataset(str(tmp_path / "x.npz"))) == rows
