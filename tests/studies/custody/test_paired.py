"""Paired: the cells of a seed are given the same numbers, whatever they train, in whatever framework, alone or not.

All is asked of what reaches the backend. The losses depend on weights, data, noise and step, so that cells of different
objectives have different weights and losses, as they have in a study.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backends.interface import Draws, Weights
from tests.studies.custody.conftest import installed_fakes
from tests.studies.custody.entry import make_cell, run_alone, run_group, write_points
from tests.studies.custody.fake_backend import ChainRun, Evaluation, Trained

SETTINGS: dict[str, Any] = {"num_steps": 24}
"""Long enough that the bound's strata hold several steps: which of them is visited is drawn too."""
SAME_PROCESS: dict[str, dict[str, Any]] = {
    "posterior_kl": {"objective": "posterior_kl"},
    "target_mse": {"objective": "target_mse"},
    "fake_two": {"backend": "fake_two"},
    "fake_two posterior_kl": {"backend": "fake_two", "objective": "posterior_kl"},
    "float64": {"dtype": "float64"},
    "bfloat16": {"dtype": "bfloat16"},
    "stratified": {"timesteps": "stratified"},
    "importance": {"timesteps": "importance"},
    "importance posterior_kl": {"timesteps": "importance", "objective": "posterior_kl"},
    "x_0": {"prediction": "x_0"},
    "beta": {"variance": "beta"},
}
"""What the cells of seed 0 differ in from the first of them, which trains epsilon_mse in fake_one."""
OTHER_PROCESS: dict[str, dict[str, Any]] = {
    "linear": {"schedule": "linear"},
    "hybrid": {"variance": "learned_range", "objective": "hybrid"},
}
TOGETHER: dict[str, dict[str, Any]] = {
    "together": {},
    "together posterior_kl": {"objective": "posterior_kl"},
    "together target_mse": {"objective": "target_mse"},
}
ALL = [*SAME_PROCESS, *OTHER_PROCESS, *TOGETHER]


@dataclass(frozen=True, eq=False)
class Seen:
    """What reached the backend of one cell, and the rows that it made."""

    trained: Trained
    evaluation: Evaluation
    rows: pd.DataFrame


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Seen]]:
    """Every cell above by name, "first", and those of "another seed", alone and together."""
    folder = tmp_path_factory.mktemp("paired")
    points = write_points(folder / "points.npz", dims=18)  # more than 16: the flow draws probes
    cells: dict[str, Seen] = {}
    with pytest.MonkeyPatch.context() as patch:
        fakes = installed_fakes(patch)
        alone = {"first": {}, **SAME_PROCESS, **OTHER_PROCESS, "another seed": {"seed": 1}}
        for name, factors in alone.items():
            cell = make_cell(points, **factors)
            fake = fakes[cell.backend]
            rows = run_alone(folder / "alone", cell, fake, points, **SETTINGS)
            cells[name] = Seen(fake.trainings[-1], fake.evaluations[-1], rows)
        fakes = installed_fakes(patch)
        group = {**TOGETHER, "together another seed": {"seed": 1}}
        group = dict(sorted(group.items(), reverse=True))  # seed 1 stands among the others
        members = [make_cell(points, **factors) for factors in group.values()]
        of_group = run_group(folder / "together", members, fakes["fake_one"], points, **SETTINGS)
        fake = fakes["fake_one"]
        for name, trained, evaluation, rows in zip(group, fake.trainings, fake.evaluations, of_group, strict=True):
            cells[name] = Seen(trained, evaluation, rows)
        yield cells


def same_weights(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def check_common(one: Draws, other: Draws, name: str) -> None:
    """At every t both have the same draws in the same order, as far as both go; and both go somewhere at each t.

    A schedule has runs of steps of its own from t = 20 on, and a run of two steps is met at one of them by few draws.
    """
    both = set(one.t) & set(other.t)
    if name == "linear":
        assert both >= set(range(1, 10))
        both = {t for t in both if t < 20}
    else:
        assert set(one.t) == set(other.t)
    for t in both:
        mine, yours = one.t == t, other.t == t
        common = min(mine.sum(), yours.sum())
        np.testing.assert_array_equal(one.x_0[mine][:common], other.x_0[yours][:common])
        np.testing.assert_array_equal(one.epsilon[mine][:common], other.epsilon[yours][:common])


def check_equal(one: Draws, other: Draws) -> None:
    np.testing.assert_array_equal(one.t, other.t)
    np.testing.assert_array_equal(one.x_0, other.x_0)
    np.testing.assert_array_equal(one.epsilon, other.epsilon)


@pytest.mark.parametrize("name", ALL)
def test_cells_of_a_seed_start_from_the_same_weights(seen, name):
    """All of them; of a network with a learned variance all but the last layer, which is twice as wide."""
    first, other = seen["first"].trained.initial, seen[name].trained.initial
    wider = {weight for weight in first if first[weight].shape != other[weight].shape}
    assert bool(wider) == (name == "hybrid")
    assert same_weights(
        {weight: array for weight, array in first.items() if weight not in wider},
        {weight: array for weight, array in other.items() if weight not in wider},
    )


@pytest.mark.parametrize("name", ALL)
def test_cells_of_a_seed_train_on_the_same_data_and_noise_in_the_same_order(seen, name):
    """Whatever they train and however they draw t."""
    first, other = seen["first"].trained.steps, seen[name].trained.steps
    assert len(first) == len(other) == 6
    for mine, yours in zip(first, other, strict=True):
        np.testing.assert_array_equal(mine.x_0, yours.x_0)
        np.testing.assert_array_equal(mine.epsilon, yours.epsilon)


@pytest.mark.parametrize("name", ALL)
def test_cells_of_a_seed_that_draw_t_alike_train_at_the_same_t(seen, name):
    """Importance sampling draws uniform t until every t has a history, which it has not got after these few steps."""
    first = np.stack([draws.t for draws in seen["first"].trained.steps])
    other = np.stack([draws.t for draws in seen[name].trained.steps])
    if name == "stratified":
        assert np.all(np.diff(other, axis=1) >= 0)  # one in each fifth of 1..T
        assert np.any(first != other)
    else:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("name", ALL)
def test_the_bounds_of_a_seed_are_of_the_same_examples_steps_and_noise(seen, name):
    """Stratum by stratum as far as their budgets agree, although the losses, which share the budget out, differ."""
    check_common(seen["first"].evaluation.bound, seen[name].evaluation.bound, name)


@pytest.mark.parametrize("name", [*SAME_PROCESS, *TOGETHER])
def test_the_floors_of_a_seed_are_at_the_same_points(seen, name):
    check_equal(seen["first"].evaluation.floors, seen[name].evaluation.floors)


@pytest.mark.parametrize("name", ALL)
def test_the_flows_of_a_seed_are_of_the_same_examples_with_the_same_noise_and_probes(seen, name):
    first, other = seen["first"].evaluation, seen[name].evaluation
    check_equal(first.flow_end, other.flow_end)
    check_common(first.flow_bound, other.flow_bound, name)
    np.testing.assert_array_equal(first.fields[0].probes, other.fields[0].probes)
    assert first.fields[0].probes.shape == (2, 8, 18)  # two probes for each of 4 examples, twice
    if name not in OTHER_PROCESS:
        np.testing.assert_array_equal(first.fields[0].x, other.fields[0].x)


@pytest.mark.parametrize("name", ALL)
def test_the_chains_of_a_seed_start_from_the_same_noise_and_add_the_same_noise(seen, name):
    first, other = seen["first"].evaluation.chains, seen[name].evaluation.chains
    assert len(first) == len(other) == 2
    for mine, yours in zip(first, other, strict=True):
        np.testing.assert_array_equal(mine.x_T, yours.x_T)
        assert mine.noise.keys() == yours.noise.keys() == set(range(1, mine.process.num_steps + 1))
        for t, noise in mine.noise.items():
            np.testing.assert_array_equal(noise, yours.noise[t])


@pytest.mark.parametrize("name", ["posterior_kl", "fake_two posterior_kl", "target_mse"])
def test_objectives_are_judged_alike_though_their_weights_differ(seen, name):
    """What makes the tests above tell something: these cells' weights are not those of the first."""
    first, other = seen["first"].evaluation.network.weights, seen[name].evaluation.network.weights
    assert not same_weights(first, other)


@pytest.mark.parametrize("pair", [("first", "another seed"), ("together", "together another seed")])
def test_another_seed_has_numbers_of_its_own_in_everything_but_the_choice_of_examples(seen, pair):
    first, other = (seen[name] for name in pair)
    assert not same_weights(first.trained.initial, other.trained.initial)
    for mine, yours in zip(first.trained.steps, other.trained.steps, strict=True):
        assert np.any(mine.x_0 != yours.x_0)
        assert np.any(mine.t != yours.t)
        assert not np.any(mine.epsilon == yours.epsilon)
    one, two = first.evaluation, other.evaluation
    share_nothing(one.bound.epsilon, two.bound.epsilon)
    assert np.any(one.bound.x_0[one.bound.t == 1][:16] != two.bound.x_0[two.bound.t == 1][:16])
    pilot = 16 + 15 * 4  # the first batch: so many draws of t = 1, and of each of 15 other strata
    assert np.any(one.bound.t[:pilot] != two.bound.t[:pilot])
    share_nothing(one.floors.epsilon, two.floors.epsilon)
    share_nothing(one.flow_end.epsilon, two.flow_end.epsilon)
    np.testing.assert_array_equal(one.flow_end.x_0, two.flow_end.x_0)
    assert np.any(one.fields[0].probes != two.fields[0].probes)
    for mine, yours in zip(one.chains, two.chains, strict=True):
        share_nothing(drawn_by(mine), drawn_by(yours))


def share_nothing(one: np.ndarray, other: np.ndarray) -> None:
    assert one.size
    assert other.size
    assert not np.intersect1d(one, other).size


def drawn_by(chain: ChainRun) -> np.ndarray:
    return np.concatenate([chain.x_T.ravel(), *(noise.ravel() for noise in chain.noise.values())])


@pytest.mark.parametrize("name", ["first", "importance posterior_kl", "together target_mse"])
def test_no_noise_is_used_twice(seen, name):
    """Not in two steps of training, nor in training and in an evaluation, nor in a chain's start and its steps."""
    cell = seen[name]
    numbers = np.concatenate(
        [
            *(draws.epsilon.ravel() for draws in cell.trained.steps),
            cell.evaluation.bound.epsilon.ravel(),
            cell.evaluation.flow_end.epsilon.ravel(),
            *(drawn_by(chain) for chain in cell.evaluation.chains),
        ]
    )
    assert len(np.unique(numbers)) == len(numbers)


@pytest.mark.parametrize("name", ["first", "stratified", "together posterior_kl"])
def test_every_step_of_training_has_examples_and_t_of_its_own(seen, name):
    steps = seen[name].trained.steps
    assert len({tuple(draws.t) for draws in steps}) == len(steps)
    assert len({tuple(draws.x_0[:, 0]) for draws in steps}) == len(steps)


def test_strata_of_the_bound_meet_the_examples_in_orders_of_their_own(seen):
    """An order that strata shared would tie their errors together. Of 12 examples two agree by a chance of 1e-8."""
    bound = seen["linear"].evaluation.bound  # a cosine spends its draws on its dearest step, the last
    orders = [bound.x_0[bound.t == t][:8, 0] for t in range(2, 10)]  # the first eight visits
    assert len({tuple(order) for order in orders if len(order) == 8}) == len(orders)


def test_samples_of_several_batches_are_drawn_from_noise_of_their_own(fake, tmp_path):
    """A chain takes 512 at once."""
    points = write_points(tmp_path / "points.npz", train=40, test=20, dims=1)
    run_alone(tmp_path, make_cell(points), fake, points, samples=530, full_samples=0, flow_examples=0)
    whole, rest = fake.evaluations[0].chains
    assert (len(whole.x_T), len(rest.x_T)) == (512, 18)
    share_nothing(drawn_by(whole), drawn_by(rest))


@pytest.mark.parametrize(
    ("alone", "together"),
    [
        ("first", "together"),
        ("posterior_kl", "together posterior_kl"),
        ("target_mse", "together target_mse"),
        ("another seed", "together another seed"),
    ],
)
def test_a_cell_among_others_has_the_rows_that_it_has_alone(seen, alone, together):
    """To the last digit: the arithmetic of the fake is the same. No member has another's curve, weights or samples."""
    one, other = untimed(seen[alone].rows), untimed(seen[together].rows)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def untimed(rows: pd.DataFrame) -> pd.DataFrame:
    timed = rows["metric"].str.endswith("seconds") | (rows["metric"] == "trained_together")
    return rows[~timed].reset_index(drop=True)
