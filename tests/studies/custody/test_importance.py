"""Importance-sampled t: what a cell's P(t) are made of, and how their weights enter its curve.

Nichol & Dhariwal (2021), eq. 18: P(t) proportional to sqrt(E[L_t^2]) over the last ten losses at t, uniform until every
t has ten. Here 0.001 of the probability is uniform for good, and the weight of a draw is 1 / (T P(t)).
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest

from backends.interface import Draws
from tests.studies.custody.entry import make_cell, run_alone, run_group
from tests.studies.custody.fake_backend import FakeBackend, Trained

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt:RuntimeWarning")
"""An epsilon MSE that is the smallest where the bound is cheapest may be estimated below 0, and its root is NaN."""

T, DIMS, STEPS = 4, 3, 125
SETTINGS = {
    "num_steps": T, "sample_steps": 2, "train_steps": STEPS, "batch_size": 6, "flow_examples": 0,
    "bound_evaluations": 10,
}  # fmt: skip
OBJECTIVES = {"epsilon_mse": "mse", "target_mse": "mse", "posterior_kl": "kl", "hybrid": "kl"}
"""The loss that each learns from: the one it trains, and the harder one where it trains both."""


def mse_of(draws: Draws) -> np.ndarray:
    """Largest at t = 4, and different for every draw."""
    return draws.t**2 * (0.5 + np.abs(draws.epsilon[:, 0]))


def kl_of(draws: Draws) -> np.ndarray:
    """Largest at t = 1."""
    return (5.0 - draws.t) ** 3 * (0.5 + np.abs(draws.epsilon[:, 1]))


@pytest.fixture
def known(fake: FakeBackend) -> FakeBackend:
    fake.losses = lambda weights, process, draws: (mse_of(draws), kl_of(draws))
    return fake


def cell_of(points, objective: str, **factors):
    variance = "learned_range" if objective == "hybrid" else "beta_tilde"
    return make_cell(points, objective=objective, variance=variance, **{"timesteps": "importance", **factors})


def probabilities_by_hand(trained: Trained, loss: str) -> list[np.ndarray]:
    """P(t) at every step, from the losses of the steps before it."""
    history: dict[int, list[float]] = defaultdict(list)
    of_steps = []
    for draws in trained.steps:
        if min(len(history[t]) for t in range(1, T + 1)) < 10:
            of_steps.append(np.full(T, 1 / T))
        else:
            root = [math.sqrt(sum(value**2 for value in history[t][-10:]) / 10) for t in range(1, T + 1)]
            of_steps.append(np.array([0.999 * value / sum(root) + 0.001 / T for value in root]))
        for t, value in zip(draws.t, {"mse": mse_of, "kl": kl_of}[loss](draws), strict=True):
            history[int(t)].append(float(value))
    return of_steps


def check_weights(trained: Trained, loss: str) -> None:
    by_hand = probabilities_by_hand(trained, loss)
    for draws, p in zip(trained.steps, by_hand, strict=True):
        np.testing.assert_allclose(draws.weight, 1 / (T * p[draws.t - 1]), rtol=1e-9)
    warm = [step for step, p in enumerate(by_hand) if np.ptp(p) > 0]
    assert 6 < warm[0] < 40
    assert warm == list(range(warm[0], STEPS))


@pytest.mark.parametrize(("objective", "loss"), OBJECTIVES.items())
def test_weights_follow_the_history_of_the_objectives_own_loss(known, points, tmp_path, objective, loss):
    run_alone(tmp_path, cell_of(points, objective), known, points, **SETTINGS)
    check_weights(known.trainings[0], loss)


def test_each_member_of_a_group_has_its_own_history(known, points, tmp_path):
    pairs = [("posterior_kl", 0), ("epsilon_mse", 0), ("target_mse", 1), ("posterior_kl", 1)]
    run_group(tmp_path, [cell_of(points, objective, seed=seed) for objective, seed in pairs], known, points, **SETTINGS)
    for trained, (objective, _) in zip(known.trainings, pairs, strict=True):
        check_weights(trained, OBJECTIVES[objective])


def uniform_numbers(known: FakeBackend, points, folder) -> list[np.ndarray]:
    """The seed's u at every step, rounded down to 0.001: its uniform t of 1000 are 1 + floor(1000 u)."""
    fine = {**SETTINGS, "num_steps": 1000, "full_samples": 0, "bound_evaluations": 1}
    run_alone(folder, make_cell(points, objective="posterior_kl"), known, points, **fine)
    return [(draws.t - 1) / 1000 for draws in known.trainings[-1].steps]


def test_t_is_drawn_by_these_probabilities(known, points, tmp_path):
    """By inverting their sums, from the uniform numbers of the seed's uniform t."""
    run_alone(tmp_path, cell_of(points, "posterior_kl"), known, points, **SETTINGS)
    trained = known.trainings[0]
    numbers, probabilities = uniform_numbers(known, points, tmp_path / "fine"), probabilities_by_hand(trained, "kl")
    for draws, u, p in zip(trained.steps, numbers, probabilities, strict=True):
        edges = np.append(0.0, np.cumsum(p))
        assert np.all(edges[draws.t] > u - 1e-9)
        assert np.all(edges[draws.t - 1] <= u + 1e-3)
    # The KL gives t = 1 about two thirds of the probability: of 600 draws at least half, but for a chance of 1e-9.
    assert np.mean(np.concatenate([draws.t for draws in trained.steps[-100:]]) == 1) > 0.5


def test_stratified_t_are_one_in_each_part_from_the_same_uniform_numbers(known, points, tmp_path):
    run_alone(tmp_path, cell_of(points, "posterior_kl", timesteps="stratified"), known, points, **SETTINGS)
    trained = known.trainings[0]
    for draws, u in zip(trained.steps, uniform_numbers(known, points, tmp_path / "fine"), strict=True):
        part = T * (np.arange(6) + u) / 6
        assert np.all((np.floor(part) <= draws.t - 1) & (draws.t - 1 <= np.floor(part + 0.001 * T / 6)))


@pytest.mark.parametrize("timesteps", ["uniform", "stratified"])
def test_other_ways_of_drawing_t_have_weight_1(known, points, tmp_path, timesteps):
    run_alone(tmp_path, cell_of(points, "posterior_kl", timesteps=timesteps), known, points, **SETTINGS)
    assert all(np.all(draws.weight == 1) for draws in known.trainings[0].steps)


def check_curve(rows, trained: Trained) -> None:
    """A row every second step, and one for the last alone: means of weight times loss, the KL's in bits per dim of
    the whole chain."""
    by_hand = []
    for first, last in [*((first, first + 1) for first in range(1, STEPS, 2)), (STEPS, STEPS)]:
        draws = trained.steps[first - 1 : last]
        weight = np.concatenate([each.weight for each in draws])
        mse = np.mean(weight * np.concatenate([mse_of(each) for each in draws]))
        kl = np.mean(weight * np.concatenate([kl_of(each) for each in draws]))
        by_hand.append((last, mse, T * kl / (DIMS * math.log(2))))
    for column, metric in ((1, "train_epsilon_mse"), (2, "train_posterior_kl")):
        of_metric = rows[rows["metric"] == metric]
        assert of_metric["step"].tolist() == [row[0] for row in by_hand]
        np.testing.assert_allclose(of_metric["value"], [row[column] for row in by_hand], rtol=1e-12)


@pytest.mark.parametrize("timesteps", ["uniform", "importance"])
@pytest.mark.parametrize("objective", ["epsilon_mse", "posterior_kl"])
def test_the_curve_is_the_weighted_mean_of_its_window(known, points, tmp_path, timesteps, objective):
    rows = run_alone(tmp_path, cell_of(points, objective, timesteps=timesteps), known, points, **SETTINGS)
    check_curve(rows, known.trainings[0])


@pytest.mark.parametrize("timesteps", ["uniform", "importance"])
def test_the_curves_of_a_group_are_those_of_its_members(known, points, tmp_path, timesteps):
    pairs = [("posterior_kl", 1), ("epsilon_mse", 0), ("posterior_kl", 0)]
    cells = [cell_of(points, objective, seed=seed, timesteps=timesteps) for objective, seed in pairs]
    for rows, trained in zip(run_group(tmp_path, cells, known, points, **SETTINGS), known.trainings, strict=True):
        check_curve(rows, trained)
