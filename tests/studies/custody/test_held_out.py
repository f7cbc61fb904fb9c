"""Held out: fitted on the training set, judged on the test set, with floors from the training set.

No two numbers of the data are equal, so that an example is known by its first entry.
"""

from __future__ import annotations

import numpy as np
import pytest

from backends.interface import Draws
from core.reverse import ReverseProcess
from studies.datasets import load_dataset
from tests.studies.custody.entry import make_cell, run_alone, run_group, value_of
from tests.studies.custody.fake_backend import FakeBackend, of_t


def examples_in(draws: Draws, data: np.ndarray) -> list[int]:
    """Which example of `data` each draw is of; an error for a draw that is none of them."""
    index = {example.tobytes(): i for i, example in enumerate(data)}
    return [index[np.ascontiguousarray(x_0, np.float64).tobytes()] for x_0 in draws.x_0]


@pytest.mark.parametrize("timesteps", ["uniform", "stratified", "importance"])
def test_training_takes_every_training_example_once_an_epoch_and_no_other(fake, points, tmp_path, timesteps):
    """24 examples, five a step: an epoch ends within the fifth step."""
    run_alone(tmp_path, make_cell(points, timesteps=timesteps), fake, points, train_steps=15)
    train = np.load(points)["train"]
    order = [i for draws in fake.trainings[0].steps for i in examples_in(draws, train)]
    epochs = [order[start : start + 24] for start in range(0, 72, 24)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(24))
    assert epochs[0] != epochs[1] != epochs[2]


def test_members_of_a_group_train_on_training_examples(fake, points, tmp_path):
    cells = [make_cell(points, objective=objective) for objective in ("epsilon_mse", "posterior_kl")]
    run_group(tmp_path, cells, fake, points)
    train = np.load(points)["train"]
    for trained in fake.trainings:
        assert sorted([i for draws in trained.steps for i in examples_in(draws, train)][:24]) == list(range(24))


@pytest.mark.parametrize("limit", [None, 7])
def test_the_bound_visits_every_test_example_and_no_other(fake, points, tmp_path, limit):
    """At every t as often as any other, to within one, the pilot's pairs apart; of a limited test set the first."""
    run_alone(tmp_path, make_cell(points), fake, points, test_examples=limit)
    test = np.load(points)["test"][:limit]
    visited = np.array(examples_in(fake.evaluations[0].bound, test))
    assert set(visited) == set(range(len(test)))


@pytest.mark.parametrize("limit", [None, 7])
def test_the_flow_takes_test_examples_and_its_bound_is_of_the_same(fake, points, tmp_path, limit):
    run_alone(tmp_path, make_cell(points), fake, points, test_examples=limit, flow_examples=4)
    test = np.load(points)["test"][:limit]
    evaluation = fake.evaluations[0]
    chosen = examples_in(evaluation.flow_end, test)
    assert len(set(chosen)) == 4
    assert chosen == 2 * chosen[:4]  # each with two draws of noise
    assert set(examples_in(evaluation.flow_bound, test)) == set(chosen)
    alpha_bar = evaluation.made.process.schedule.alpha_bar[1]
    x_1 = np.sqrt(alpha_bar) * evaluation.flow_end.x_0 + np.sqrt(1 - alpha_bar) * evaluation.flow_end.epsilon
    np.testing.assert_allclose(evaluation.fields[0].x, x_1, rtol=1e-12)


def conditional_moments(fake: FakeBackend) -> tuple[np.ndarray, np.ndarray, np.ndarray, ReverseProcess]:
    """x_t, t and E[x_0 | x_t] of the floors, from their two passes one deviation to either side of the mean."""
    evaluation = fake.evaluations[0]
    floors, process = evaluation.floors, evaluation.made.process
    count = len(floors.t) // 2
    above, below = (Draws(*(getattr(floors, name)[part] for name in ("x_0", "epsilon", "t", "weight")))
                    for part in (slice(count), slice(count, 2 * count)))  # fmt: skip
    alpha_bar = process.schedule.alpha_bar[above.t][:, None]
    x_t = [np.sqrt(alpha_bar) * draws.x_0 + np.sqrt(1 - alpha_bar) * draws.epsilon for draws in (above, below)]
    np.testing.assert_allclose(x_t[0], x_t[1], rtol=1e-9, atol=1e-9)
    return x_t[0], above.t, 0.5 * (above.x_0 + below.x_0), process


def test_the_floors_are_those_of_the_training_set(fake, points, tmp_path):
    """E[x_0 | x_t] of each point is the mean of the training set by probability, worked out point by point."""
    run_alone(tmp_path, make_cell(points), fake, points)
    x_t, t, x_0_hat, process = conditional_moments(fake)
    train = np.load(points)["train"]
    alpha_bar = process.schedule.alpha_bar[t][:, None]
    distance = ((x_t[:, None] - np.sqrt(alpha_bar)[:, None] * train) ** 2).sum(axis=2)
    log_odds = -distance / (2 * (1 - alpha_bar))
    odds = np.exp(log_odds - log_odds.max(axis=1, keepdims=True))
    by_hand = (odds / odds.sum(axis=1, keepdims=True)) @ train
    np.testing.assert_allclose(x_0_hat, by_hand, rtol=1e-6, atol=1e-6)


def test_the_floors_of_data_whose_density_is_known_are_those_of_the_density(fake, tmp_path):
    """Eight narrow components, whose probabilities and means given x_t are worked out here."""
    run_alone(tmp_path, make_cell("mixture"), fake, "mixture", test_examples=40)
    x_t, t, x_0_hat, process = conditional_moments(fake)
    truth = load_dataset("mixture").truth
    assert truth is not None
    variance = truth.variances[0, 0]
    assert np.all(truth.variances == variance)
    alpha_bar = process.schedule.alpha_bar[t][:, None, None]
    total = alpha_bar * variance + 1 - alpha_bar
    offset = x_t[:, None] - np.sqrt(alpha_bar) * truth.means
    log_odds = -(offset**2).sum(axis=2) / (2 * total[:, :, 0])
    odds = np.exp(log_odds - log_odds.max(axis=1, keepdims=True))
    means = truth.means + np.sqrt(alpha_bar) * variance / total * offset
    by_hand = np.einsum("nk,nkd->nd", odds / odds.sum(axis=1, keepdims=True), means)
    np.testing.assert_allclose(x_0_hat, by_hand, rtol=1e-9, atol=1e-9)


def test_the_floor_of_data_on_levels_takes_its_first_step_from_training_examples(fake, tmp_path):
    """Behind the two passes come the draws of t = 1 as they are, x_0 being an example."""
    rng = np.random.default_rng(3)
    numbers = np.unique(rng.integers(0, 5, (60, 6)), axis=0) / 2 - 1.0
    rng.shuffle(numbers)
    train, test = numbers[:30], numbers[30:]
    levels = tmp_path / "levels.npz"
    np.savez(levels, train=train, test=test, levels=5)
    run_alone(tmp_path, make_cell(levels), fake, levels)
    floors = fake.evaluations[0].floors
    per_step = int(np.sum(floors.t == 1)) // 3
    last = Draws(*(getattr(floors, name)[-per_step:] for name in ("x_0", "epsilon", "t", "weight")))
    assert np.all(last.t == 1)
    assert len(set(examples_in(last, train))) > 15


def line(path, train, test):
    np.savez(path, train=train[:, None], test=test[:, None])
    return path


def test_samples_are_judged_by_the_test_set_and_their_floor_is_the_training_sets(fake, tmp_path):
    """On a line, with train about 0, test about 10 and samples about 3: which sets a distance is between shows.

    Between Gaussians on a line the squared Fréchet distance is that of the means and that of the deviations.
    """
    rng = np.random.default_rng(5)
    train, test = 0.1 * rng.standard_normal(80), 10 + 0.2 * rng.standard_normal(30)
    data = line(tmp_path / "line.npz", train, test)
    samples = 3 + 0.4 * rng.standard_normal((24, 1))
    fake.samples, fake.losses = samples, of_t(np.ones(12), np.ones(12))
    rows = run_alone(tmp_path, make_cell(data), fake, data, samples=24, full_samples=0, flow_examples=0)
    chain = "ancestral-4"
    by_hand = (samples.mean() - test.mean()) ** 2 + (samples.std(ddof=1) - test.std(ddof=1)) ** 2
    assert value_of(rows, "frechet", sampler=chain) == pytest.approx(by_hand, rel=1e-6)  # samples are float32
    # Of some 24 of the training examples, whichever they are, whose mean lies within 0.1 of theirs (5 standard errors).
    assert value_of(rows, "frechet_floor", sampler=chain) == pytest.approx((train.mean() - test.mean()) ** 2, abs=2.1)
    assert value_of(rows, "scored_samples", sampler=chain) == 24
    assert value_of(rows, "scored_reference", sampler=chain) == 30


@pytest.mark.parametrize(("copied", "share"), [("train", 1.0), ("test", 0.5)])
def test_memorised_is_what_lies_nearer_to_the_training_set_than_the_test_set_does(fake, tmp_path, copied, share):
    """Copies of training examples are always nearer to one than a test example is; copies of test examples are so in
    half of all pairs, up to which of them were copied.
    """
    rng = np.random.default_rng(6)
    data = {"train": rng.uniform(-1, 1, 80), "test": rng.uniform(-1, 1, 30)}
    path = line(tmp_path / "line.npz", data["train"], data["test"])
    fake.samples, fake.losses = data[copied][:24, None], of_t(np.ones(12), np.ones(12))
    rows = run_alone(tmp_path, make_cell(path), fake, path, samples=24, full_samples=0, flow_examples=0)
    assert value_of(rows, "memorisation", sampler="ancestral-4") == pytest.approx(share, abs=0.1)


def test_each_chain_is_judged_by_its_own_samples(fake, tmp_path):
    """Both chains' distances, worked out from what the backend gave back."""
    rng = np.random.default_rng(8)
    test = rng.standard_normal(30)
    data = line(tmp_path / "line.npz", rng.standard_normal(80), test)
    fake.losses = of_t(np.ones(12), np.ones(12))
    rows = run_alone(tmp_path, make_cell(data), fake, data, samples=30, full_samples=24, flow_examples=0)
    for chain, name, count in zip(fake.evaluations[0].chains, ("ancestral-4", "ancestral-12"), (30, 24), strict=True):
        samples = chain.x_0
        assert samples.shape == (count, 1)
        by_hand = (samples.mean() - test.mean()) ** 2 + (samples.std(ddof=1) - test.std(ddof=1)) ** 2
        assert value_of(rows, "frechet", sampler=name) == pytest.approx(by_hand, rel=1e-5, abs=1e-7)
