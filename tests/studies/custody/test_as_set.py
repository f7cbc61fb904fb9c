"""As set: every flag of a study reaches the place that its help names, with its value, and no other place.

Each flag is given on a command line of a study of one small cell. What it changes of all that reaches the backend
(`command.parts_of`) is named whole, so that a flag that goes nowhere or elsewhere fails here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from backends.networks import MLPSettings, UNetSettings
from backends.recipe import TrainingRecipe
from core.reverse import ReverseProcess
from core.samplers import ancestral_step, ddim_step, dpm_solver_step
from core.schedules import Schedule, cosine, linear
from tests.studies.custody.command import Commands, FlagTests, Seen, changed, of_noise, words_of
from tests.studies.custody.entry import STUDY_FLAGS, value_of, write_points
from tests.studies.custody.fake_backend import ChainRun, mean_weight

FLAGS = FlagTests(STUDY_FLAGS)
of_flags = FLAGS.of


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    folder = tmp_path_factory.mktemp("set")
    write_points(folder / "points.npz")
    write_points(folder / "others.npz", train=20, test=10, dims=2)
    rng = np.random.default_rng(1)
    np.savez(folder / "images.npz", train=rng.uniform(-1, 1, (8, 4, 4, 1)), test=rng.uniform(-1, 1, (4, 4, 4, 1)))
    np.savez(folder / "levels.npz", train=rng.integers(0, 5, (20, 3)) / 2 - 1, test=rng.integers(0, 5, (9, 3)) / 2 - 1,
             levels=5)  # fmt: skip
    return Commands(folder)


@pytest.fixture
def study(commands: Commands, request: pytest.FixtureRequest) -> Iterator[Callable[..., Seen]]:
    """Runs a study; the test fails where the flags that it is of were not on its command lines."""
    commands.given.clear()
    yield commands.study
    FLAGS.check_given(commands.given, request)


@pytest.fixture(scope="module")
def plain(commands: Commands) -> Seen:
    """The study that every flag is compared with."""
    return commands.study()


@pytest.fixture(scope="module")
def images(commands: Commands) -> str:
    return f"--dataset {commands.folder / 'images.npz'} --widths 8 16 --norm-groups 4 --flow-examples 0"


@pytest.fixture(scope="module")
def plain_images(commands: Commands, images: str) -> Seen:
    return commands.study(images)


def test_every_flag_of_a_study_has_a_test():
    assert FLAGS.tests.keys() == STUDY_FLAGS.keys()


def test_the_same_command_again_changes_nothing(commands, plain):
    assert changed(plain, commands.study()) == set()


def test_the_plain_study(plain):
    """What the changes below are changes from: every setting that reaches the backend, at one place."""
    trained, evaluation = plain.trained, plain.evaluation
    assert trained.settings == MLPSettings((3,), width=4, depth=1)
    assert (trained.objective, trained.learned, trained.group) == ("epsilon_mse", None, ("epsilon_mse",))
    recipe = TrainingRecipe(num_steps=3, learning_rate=3e-3, warmup_steps=2, clip_norm=1.0, ema_decay=0.999)
    assert trained.recipe == recipe
    (execution,) = plain.executions()
    assert dataclasses.astuple(execution) == ("cpu", "float32", False)
    assert len(trained.steps) == 3
    assert all(len(draws.t) == 5 for draws in trained.steps)
    for stage, process in plain.processes_of().items():
        described = (process.prediction.name, process.variance.name, process.first_variance, process.levels)
        assert described == ("epsilon", "beta_tilde", "next", None), stage
        schedule = cosine(12).respaced(4) if stage == "respaced chain" else cosine(12)
        np.testing.assert_array_equal(process.schedule.beta, schedule.beta)
        np.testing.assert_array_equal(process.schedule.steps, schedule.steps)
    respaced, whole = evaluation.chains
    assert (respaced.x_T.shape, whole.x_T.shape) == ((20, 3), (3, 3))
    for chain in (respaced, whole):
        assert chain.sampler.func is ancestral_step
        assert chain.sampler.keywords == {"clip": None}
    assert plain.cells == ["points-cosine-epsilon-beta_tilde-epsilon_mse-fake_one-0"]


# Where a run lies, and what it is of.


@of_flags("out")
def test_out(study, commands):
    """Every file of the run lies in the folder, and nothing new beside it."""
    before = set(commands.folder.iterdir())
    seen = study(f"--out {commands.folder / 'elsewhere'}")
    assert set(commands.folder.iterdir()) - before == {commands.folder / "elsewhere"}
    assert {path.name for path in (commands.folder / "elsewhere").iterdir()} == {
        "cells", "environment.json", "reference.npz", "results.csv", "settings.json",
    }  # fmt: skip
    assert seen.processes[0].arguments[0] == str(commands.folder / "elsewhere")


@of_flags("preset")
def test_preset(study, commands):
    """Smoke, whose numbers stand in `test_defaults`, with a flag over it."""
    seen = commands.run(
        "compare_objectives",
        words_of({"--preset": "smoke", "--seeds": "1", "--objectives": "epsilon_mse", "--sample-steps": "9",
                  "--backends": "fake_one", "--dataset": str(commands.folder / "points.npz")}, "--batch-size 7"),
        "--preset smoke",
    )  # fmt: skip
    trained, (respaced, whole) = seen.trained, seen.chains()
    assert (trained.recipe.num_steps, trained.recipe.warmup_steps, trained.process.num_steps) == (60, 10, 100)
    assert len(trained.steps[0].t) == 7
    assert (respaced.process.num_steps, len(respaced.x_T)) == (9, 60)
    assert (whole.process.num_steps, len(whole.x_T)) == (100, 16)


@of_flags("dataset")
def test_dataset(study, commands):
    seen = study(f"--dataset {commands.folder / 'others.npz'}")
    with np.load(commands.folder / "others.npz") as arrays:
        train, test = arrays["train"], arrays["test"]
    assert np.isin(np.concatenate([draws.x_0 for draws in seen.trained.steps]), train).all()
    assert np.unique(seen.evaluation.bound.x_0, axis=0).tolist() == np.unique(test, axis=0).tolist()
    assert seen.trained.settings.shape == (2,)
    assert set(seen.rows["dataset"]) == {"others"}
    with np.load(seen.out / "reference.npz") as arrays:
        np.testing.assert_array_equal(arrays["test"], test.astype(np.float32))


@of_flags("dataset")
def test_the_levels_of_a_dataset_reach_every_stage(study, commands):
    seen = study(f"--dataset {commands.folder / 'levels.npz'}")
    assert {stage: process.levels for stage, process in seen.processes_of().items()} == dict.fromkeys(
        ["training", "bound", "flow", "respaced chain", "whole chain"], 5
    )


@of_flags("scale")
@pytest.mark.parametrize("rule", ["standard", "minmax"])
def test_scale(study, commands, rule):
    """What is trained on and measured is scaled as by hand; likelihoods are of the numbers in the file."""
    with np.load(commands.folder / "points.npz") as arrays:
        given = {part: 300 * arrays[part] * [1, 2, 3] + 1000 for part in ("train", "test")}
    train = given["train"]
    if rule == "standard":
        centre, factor = train.mean(axis=0), train.std(axis=0)
    else:
        centre, factor = (train.max(axis=0) + train.min(axis=0)) / 2, np.ptp(train, axis=0) / 2
    np.savez(commands.folder / "raw.npz", **given)
    np.savez(commands.folder / "by_hand.npz", **{part: (x - centre) / factor for part, x in given.items()})
    seen = study(f"--dataset {commands.folder / 'raw.npz'} --scale {rule}")
    by_hand = study(f"--dataset {commands.folder / 'by_hand.npz'}")
    for ours, theirs in zip(seen.trained.steps, by_hand.trained.steps, strict=True):
        np.testing.assert_allclose(ours.x_0, theirs.x_0, atol=1e-12)
    np.testing.assert_allclose(seen.evaluation.bound.x_0, by_hand.evaluation.bound.x_0, atol=1e-12)
    more = np.log2(factor).mean()
    for metric in ("bound", "bound_decoder", "flow_bound", "distortion"):
        assert value_of(seen.rows, metric) == pytest.approx(value_of(by_hand.rows, metric) + more, abs=1e-9)
    curve = value_of(seen.rows, "train_posterior_kl", step=1)
    assert curve == pytest.approx(value_of(by_hand.rows, "train_posterior_kl", step=1) + more, abs=1e-6)
    assert value_of(seen.rows, "bound_prior") == pytest.approx(value_of(by_hand.rows, "bound_prior"), abs=1e-12)
    assert f"scaled by {rule}: likelihoods are in the file's own units" in seen.said
    with np.load(seen.out / "reference.npz") as arrays:
        np.testing.assert_allclose(arrays["scale_centre"], centre)
        np.testing.assert_allclose(arrays["scale_factor"], factor)
        np.testing.assert_allclose(arrays["test"], (given["test"] - centre) / factor, atol=1e-6)
    assert seen.settings["scale"] == rule


def test_a_run_from_before_there_was_a_scale_goes_on(commands):
    """Its settings do not name one, which is what it was run by."""
    words = f"--out {commands.folder / 'before_scales'}"
    first = commands.study(words)
    recorded = first.settings
    assert recorded.pop("scale") == "none"
    (first.out / "settings.json").write_text(json.dumps(recorded))
    assert set(commands.study(f"{words} --seeds 2").rows["seed"]) == {0, 1}


# The factors: one cell for each combination.


@of_flags("objectives")
def test_objectives(study, plain):
    seen = study("--objectives posterior_kl")
    assert changed(plain, seen) == {"objective", "evaluated weights"}
    assert seen.trained.objective == "posterior_kl"
    assert set(seen.rows["objective"]) == {"posterior_kl"}
    both = study("--objectives target_mse posterior_kl")
    assert [trained.objective for trained in both.fake.trainings] == ["target_mse", "posterior_kl"]


@of_flags("backends")
def test_backends(study):
    seen = study("--backends fake_two fake_one")
    assert [len(seen.fakes[name].trainings) for name in ("fake_one", "fake_two")] == [1, 1]
    assert [name.split("-")[-2] for name in seen.cells] == ["fake_two", "fake_one"]
    of_installed = study("--backends", execute=False)
    assert [name.split("-")[-2] for name in of_installed.cells] == ["fake_one", "fake_two"]


@of_flags("predictions")
def test_predictions(study, plain):
    seen = study("--predictions x_0")
    assert changed(plain, seen) == {"process", "respaced chain", "whole chain"}
    assert {process.prediction.name for process in seen.processes_of().values()} == {"x_0"}
    assert set(seen.rows["prediction"]) == {"x_0"}
    both = study("--predictions v mean", execute=False)
    assert [name.split("-")[2] for name in both.cells] == ["v", "mean"]


@of_flags("variances")
def test_variances(study, plain):
    seen = study("--variances beta")
    assert changed(plain, seen) == {"process", "respaced chain", "whole chain"}
    for process in seen.processes_of().values():
        assert process.variance.name == "beta"
        assert log_variance(process, 3) == pytest.approx(math.log(process.schedule.beta[3]), rel=1e-12)
    assert set(seen.rows["variance"]) == {"beta"}


@of_flags("variances")
def test_a_learned_variance_widens_the_network(study):
    seen = study("--objectives hybrid --variances learned_range")
    assert seen.trained.settings == MLPSettings((3,), width=4, depth=1, learns_variance=True)
    assert seen.evaluation.network.settings == seen.trained.settings
    assert {process.variance.name for process in seen.processes_of().values()} == {"learned_range"}


@of_flags("schedules")
def test_schedules(study, plain):
    """By name with T = --num-steps, and with a length of its own."""
    for words, schedule in (("linear", linear(12)), ("linear:9", linear(9))):
        seen = study(f"--schedules {words}")
        parts = {"process", "respaced chain", "whole chain", "bound", "floors", "flow"}
        if words == "linear:9":
            parts |= {"training t", "whole noise"}
        assert changed(plain, seen) == parts
        for stage, process in seen.processes_of().items():
            visited = schedule.respaced(4) if stage == "respaced chain" else schedule
            np.testing.assert_array_equal(process.schedule.beta, visited.beta)
        assert set(seen.rows["schedule"]) == {words}
        assert value_of(seen.rows, "distortion_at_t", t=schedule.num_steps) > 0
    both = study("--schedules sigmoid cosine:8", execute=False)
    assert [name.split("-")[1] for name in both.cells] == ["sigmoid", "cosine_8"]


@of_flags("schedules")
def test_a_schedule_may_be_learned(study):
    seen = study("--objectives posterior_kl --schedules learned-linear:9")
    np.testing.assert_array_equal(seen.trained.learned.start.beta, linear(9).beta)
    np.testing.assert_array_equal(seen.trained.process.schedule.beta, linear(9).beta)


@of_flags("seeds")
def test_seeds(study, plain):
    seen = study("--seeds 3")
    assert [name.split("-")[-1] for name in seen.cells] == ["0", "1", "2"]
    first = seen.fake.trainings[0]
    assert mean_weight(first.initial) == mean_weight(plain.trained.initial)
    assert len({mean_weight(trained.initial) for trained in seen.fake.trainings}) == 3


@of_flags("timesteps")
def test_timesteps(study, plain):
    seen = study("--timesteps stratified")
    assert changed(plain, seen) == {"training t"}
    for draws in seen.trained.steps:
        edges = 12 * np.arange(6) / 5
        assert np.all(draws.t > edges[:-1])
        assert np.all(draws.t < edges[1:] + 1)
    assert set(seen.rows["timesteps"]) == {"stratified"}
    both = study("--timesteps importance uniform", execute=False)
    assert [name.split("-")[5] for name in both.cells] == ["importance", "fake_one"]


@of_flags("dtypes")
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_dtypes(study, plain, dtype):
    seen = study(f"--dtypes {dtype}")
    assert changed(plain, seen) == {"execution"}
    assert {execution.dtype for execution in seen.executions()} == {dtype}
    assert set(seen.rows["dtype"]) == {dtype}


# The chain.


@of_flags("num_steps")
def test_num_steps(study, plain):
    """The weights and the noise that a step of training takes stay; a respaced chain has as many steps as before."""
    seen = study("--num-steps 15")
    assert changed(plain, seen) == {
        "process", "training t", "bound", "floors", "flow", "respaced chain", "whole chain", "whole noise",
    }  # fmt: skip
    for stage, process in seen.processes_of().items():
        schedule = cosine(15).respaced(4) if stage == "respaced chain" else cosine(15)
        np.testing.assert_array_equal(process.schedule.beta, schedule.beta)
    visited = set(seen.evaluation.bound.t)
    assert visited >= {*range(1, 10), 14, 15}
    assert visited & {10, 11}  # runs of two steps, met at one of them by few draws
    assert visited & {12, 13}
    assert max(visited) == 15


def log_variance(process: ReverseProcess, t: int) -> float:
    """Of p(x_{t-1} | x_t), where it is fixed."""
    return float(process.log_variance(None, np.array([t]), np.zeros((1, 3)))[0, 0])


def beta_of(schedule: Schedule, t: int) -> float:
    return float(1 - schedule.alpha_bar[t] / schedule.alpha_bar[t - 1])


def beta_tilde_of(schedule: Schedule, t: int) -> float:
    alpha_bar = schedule.alpha_bar
    return float((1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta_of(schedule, t))


@of_flags("first_variance")
def test_first_variance(study, plain):
    """The variance at t = 1 of all that trains, measures and samples, a respaced chain's on its own steps."""
    seen = study("--first-variance beta")
    assert changed(plain, seen) == {"process", "respaced chain", "whole chain"}
    for process in plain.processes_of().values():
        assert log_variance(process, 1) == pytest.approx(math.log(beta_tilde_of(process.schedule, 2)), rel=1e-9)
    for process in seen.processes_of().values():
        assert log_variance(process, 1) == pytest.approx(math.log(beta_of(process.schedule, 1)), rel=1e-9)
        assert log_variance(process, 2) == pytest.approx(math.log(beta_tilde_of(process.schedule, 2)), rel=1e-9)


# The networks.

U_NET: dict[str, tuple[str, dict[str, Any], bool]] = {
    "widths": ("--widths 8 12", {"widths": (8, 12)}, True),
    "blocks_per_level": ("--blocks-per-level 2", {"blocks_per_level": 2}, True),
    "attention_levels": ("--attention-levels 1", {"attention_levels": (1,)}, True),
    "mid_attention": ("--no-mid-attention", {"mid_attention": False}, True),
    "norm_groups": ("--norm-groups 2", {"norm_groups": 2}, False),
}
"""The flag, what it makes of the network, and whether that has other weights."""
PERCEPTRON: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp_width": ("--mlp-width 5", {"width": 5}),
    "mlp_depth": ("--mlp-depth 2", {"depth": 2}),
}


@of_flags(*U_NET)
@pytest.mark.parametrize("flag", U_NET)
def test_the_u_net(study, images, plain_images, flag):
    words, changes, other_weights = U_NET[flag]
    before = {
        "widths": (8, 16), "blocks_per_level": 1, "attention_levels": (), "mid_attention": True, "norm_groups": 4,
    }  # fmt: skip
    assert plain_images.trained.settings == UNetSettings((4, 4, 1), **before)
    seen = study(f"{images} {words}")
    assert seen.trained.settings == UNetSettings((4, 4, 1), **{**before, **changes})
    weights = {"initial weights", "evaluated weights"} if other_weights else set()
    assert changed(plain_images, seen) == {"network", *weights}


@of_flags(*PERCEPTRON)
@pytest.mark.parametrize("flag", PERCEPTRON)
def test_the_perceptron(study, plain, flag):
    words, changes = PERCEPTRON[flag]
    seen = study(words)
    assert seen.trained.settings == MLPSettings((3,), **{"width": 4, "depth": 1, **changes})
    assert changed(plain, seen) == {"network", "initial weights", "evaluated weights"}


# Training.

RECIPE: dict[str, tuple[str, dict[str, Any]]] = {
    "learning_rate": ("--learning-rate 0.02", {"learning_rate": 0.02}),
    "warmup_steps": ("--warmup-steps 1", {"warmup_steps": 1}),
    "clip_norm": ("--clip-norm 0.25", {"clip_norm": 0.25}),
    "ema_decay": ("--ema-decay 0.5", {"ema_decay": 0.5}),
}


@of_flags(*RECIPE)
@pytest.mark.parametrize("flag", RECIPE)
def test_the_recipe(study, plain, flag):
    words, changes = RECIPE[flag]
    seen = study(words)
    assert changed(plain, seen) == {"recipe"}
    assert seen.trained.recipe == dataclasses.replace(plain.trained.recipe, **changes)


@of_flags("clip_norm")
def test_clipping_may_be_off(study):
    assert study("--clip-norm None").trained.recipe.clip_norm is None


@of_flags("train_steps")
def test_train_steps(study, plain):
    """So many steps, over which the rate falls; the first of them are the same."""
    seen = study("--train-steps 4")
    assert changed(plain, seen) == {
        "recipe", "steps", "training examples", "training noise", "training t", "training weight", "evaluated weights",
    }  # fmt: skip
    assert seen.trained.recipe == dataclasses.replace(plain.trained.recipe, num_steps=4)
    assert len(seen.trained.steps) == 4
    for mine, before in zip(seen.trained.steps, plain.trained.steps, strict=False):
        np.testing.assert_array_equal(mine.x_0, before.x_0)
    curve = seen.rows[seen.rows["metric"] == "train_epsilon_mse"]
    assert curve["step"].tolist() == [1, 2, 3, 4]


@of_flags("batch_size")
def test_batch_size(study, plain):
    seen = study("--batch-size 4")
    assert changed(plain, seen) == {"training examples", "training noise", "training t", "training weight"}
    for draws in seen.trained.steps:
        assert (draws.x_0.shape, draws.epsilon.shape, draws.t.shape, draws.weight.shape) == ((4, 3), (4, 3), (4,), (4,))


# Measuring.


@of_flags("bound_evaluations")
def test_bound_evaluations(study, plain):
    """Of each of 12 test examples; the 16 of the pilot at t = 1 come on top."""
    seen = study("--bound-evaluations 30")
    assert changed(plain, seen) == {"bound"}
    for of_study, asked in ((plain, 20), (seen, 30)):
        assert 0 <= len(of_study.evaluation.bound.t) - asked * 12 <= 16
        evaluations = value_of(of_study.rows, "bound_evaluations")
        assert evaluations == pytest.approx(len(of_study.evaluation.bound.t) / 12, rel=1e-12)


@of_flags("bound_se")
def test_bound_se(study):
    """In bits per dim, whatever --bound-evaluations says: reached, at not many times what it takes."""
    for target in (5, 2):
        seen = study(f"--bound-se {target}", losses=of_noise)
        error = seen.rows.loc[seen.rows["metric"] == "bound", "standard_error"].item()
        assert 0.7 * target < error <= target
        assert len(seen.evaluation.bound.t) > 20 * 12


@of_flags("bound_se")
def test_bound_se_changes_the_bound_alone(study, plain):
    assert changed(plain, study("--bound-se 6")) == {"bound"}


@of_flags("flow_examples")
def test_flow_examples(study, plain):
    seen = study("--flow-examples 4")
    assert changed(plain, seen) == {"flow"}
    for of_study, count in ((plain, 2), (seen, 4)):
        assert len(np.unique(of_study.evaluation.flow_end.x_0, axis=0)) == count
        assert len(np.unique(of_study.evaluation.flow_bound.x_0, axis=0)) == count
        assert value_of(of_study.rows, "flow_examples") == count


@of_flags("flow_examples")
def test_no_flow_examples(study, images):
    """0: no flow. None: 32 of points, as far as there are any, and 8 of signals, of which there are 4."""
    assert study("--flow-examples 0").evaluation.fields == []
    seen = study("--flow-examples None")
    assert len(np.unique(seen.evaluation.flow_end.x_0, axis=0)) == 12


@of_flags("test_examples")
def test_test_examples(study, plain, commands):
    """The first 7 for bound, flow and pictures; the floors are the training set's."""
    seen = study("--test-examples 7 --flow-examples 7")
    assert changed(plain, seen) == {"bound", "flow"}
    with np.load(commands.folder / "points.npz") as arrays:
        first = np.unique(arrays["test"][:7], axis=0).tolist()
    assert np.unique(seen.evaluation.bound.x_0, axis=0).tolist() == first
    assert np.unique(seen.evaluation.flow_end.x_0, axis=0).tolist() == first
    with np.load(seen.out / "reference.npz") as arrays:
        assert arrays["test"].shape == (7, 3)


def scored_values(seen: Seen) -> dict[str, float]:
    """How many numbers went to be scored, by chain: none of them is finite."""
    rows = seen.rows[seen.rows["metric"] == "samples_not_finite"]
    return dict(zip(rows["sampler"], rows["value"], strict=True))


@of_flags("samples")
def test_samples(study, plain):
    seen = study("--samples 23", samples=np.full((64, 3), np.nan))
    assert changed(plain, seen) == {"respaced noise"}
    respaced, whole = seen.chains()
    assert (len(respaced.x_T), len(whole.x_T)) == (23, 3)
    assert scored_values(seen) == {"ancestral-4": 23 * 3}


@of_flags("sample_steps")
def test_sample_steps(study, plain):
    seen = study("--sample-steps 6")
    assert changed(plain, seen) == {"respaced chain", "respaced noise"}
    respaced, whole = seen.chains()
    np.testing.assert_array_equal(respaced.process.schedule.steps, cosine(12).respaced(6).steps)
    assert (respaced.process.num_steps, whole.process.num_steps) == (6, 12)
    assert set(scored_values(seen)) == {"ancestral-6"}


@of_flags("full_samples")
def test_full_samples(study, plain):
    seen = study("--full-samples 21", samples=np.full((64, 3), np.nan))
    assert changed(plain, seen) == {"whole noise"}
    respaced, whole = seen.chains()
    assert (len(respaced.x_T), len(whole.x_T), whole.process.num_steps) == (20, 21, 12)
    assert scored_values(seen) == {"ancestral-4": 20 * 3, "ancestral-12": 21 * 3}
    assert len(study("--full-samples 0").chains()) == 1


@of_flags("sampler")
@pytest.mark.parametrize(("sampler", "step"), [("ddim", ddim_step), ("dpm_solver", dpm_solver_step)])
def test_sampler(study, plain, sampler, step):
    """Of the respaced chain, which then adds no noise; the whole chain stays ancestral."""
    seen = study(f"--sampler {sampler}")
    assert changed(plain, seen) == {"sampler", "respaced noise"}
    respaced, whole = seen.chains()
    assert respaced.sampler.func is step
    assert respaced.noise == {}
    assert whole.sampler.func is ancestral_step
    assert set(scored_values(seen)) == {f"{sampler}-4"}


def guess(chain: ChainRun, of_prediction: float) -> float:
    """The largest x_0_hat that the chain's sampler makes of a prediction at t = 3."""
    x_t = np.zeros((1, 3))
    t = np.array([3])
    _, x_0_hat = chain.sampler(chain.process, x_t, x_t + of_prediction, t, x_t, x_t)
    return float(np.abs(x_0_hat).max())


@of_flags("clip_x_0")
def test_clip_x_0(study, plain):
    seen = study("--clip-x-0 0.5")
    assert changed(plain, seen) == {"sampler", "whole sampler"}
    for chain in seen.chains():
        assert guess(chain, 9.0) == 0.5
    for chain in plain.chains():
        assert guess(chain, 9.0) > 2


# How it runs.


@of_flags("device")
def test_device(study, plain):
    seen = study("--device cuda")
    assert changed(plain, seen) == {"execution"}
    assert {execution.device for execution in seen.executions()} == {"cuda"}


@of_flags("compile")
def test_compile(study, plain):
    seen = study("--compile on")
    assert changed(plain, seen) == {"execution"}
    assert {execution.compile for execution in seen.executions()} == {True}
    assert changed(plain, study("--compile auto")) == set()  # nothing is known to be gained with the fakes


@of_flags("together")
@pytest.mark.parametrize(
    ("how", "seeds", "sizes"), [("off", 2, [1] * 4), ("on", 1, [2]), ("auto", 1, [1] * 2), ("auto", 2, [4])]
)
def test_together(study, how, seeds, sizes):
    """Two objectives of perceptrons on a CPU, where a group pays from four on."""
    words = f"--together {how} --seeds {seeds} --objectives epsilon_mse posterior_kl"
    seen = study(words, execute=False)
    assert [len(process.arguments) - 1 for process in seen.processes] == sizes
    assert len({process.module for process in seen.processes}) == 1
    assert len(set(seen.cells)) == 2 * seeds


@of_flags("together")
def test_cells_together_are_one_program(study):
    seen = study("--together on --objectives epsilon_mse posterior_kl")
    assert [trained.group for trained in seen.fake.trainings] == [("epsilon_mse", "posterior_kl")] * 2
    assert len(seen.fake.evaluations) == 2


@of_flags("jobs")
@pytest.mark.parametrize("jobs", [1, 3])
def test_jobs(study, jobs):
    """So many processes side by side, no more and no fewer."""
    seen = study(f"--jobs {jobs} --seeds 6", execute=False, at_once=jobs)
    assert (len(seen.processes), seen.most_at_once) == (6, jobs)


@of_flags("threads")
def test_threads(study, plain):
    seen = study("--threads 3")
    assert changed(plain, seen) == {"environment"}
    for of_study, threads in ((plain, 1), (seen, 3)):
        (process,) = of_study.processes
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            assert process.env[name] == str(threads)
        assert process.env["TF_NUM_INTEROP_THREADS"] == str(min(2, threads))
        assert ("xla_cpu_multi_thread_eigen=false" in process.env["XLA_FLAGS"]) == (threads == 1)


class Writer:
    """TensorBoard's, of which only the folder is kept."""

    folders: ClassVar[list[Path]] = []

    def __init__(self, folder: str, **_: Any) -> None:
        self.folders.append(Path(folder))

    def close(self) -> None:
        pass


@of_flags("tensorboard")
def test_tensorboard(study, monkeypatch):
    """A folder of events for every cell, from the moment that it starts; without the flag none."""
    module = ModuleType("tensorboardX")
    module.__spec__, module.SummaryWriter = ModuleSpec("tensorboardX", None), Writer
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    study(execute=False)
    assert Writer.folders == []
    seen = study("--tensorboard", execute=False)
    assert Writer.folders == [seen.out / "tensorboard" / cell for cell in seen.cells]


def of_weights_and_seed(weights, process, draws):
    """Losses of the weights alone whose difference between objectives differs from seed to seed."""
    loss = np.full(len(draws.t), (1 + mean_weight(weights)) ** 2)
    return loss, loss


@of_flags("seeds_until")
def test_seeds_until(study, commands):
    """Stein's rule by hand: with standard deviation s of n first differences, as many as t^2 s^2 / h^2."""
    words = "--objectives epsilon_mse posterior_kl --seeds 2 --flow-examples 0 --full-samples 0"
    out = commands.folder / "until"
    first = study(f"{words} --out {out}", losses=of_weights_and_seed)
    bound = first.rows[first.rows["metric"] == "bound"].pivot(index="seed", columns="objective", values="value")
    s = (bound["posterior_kl"] - bound["epsilon_mse"]).std(ddof=1)
    t_of_one_degree = math.tan(math.pi * 0.475)  # the 97.5 % point of Student's t, which is Cauchy's
    half_width = t_of_one_degree * s / math.sqrt(3.5)
    seen = study(f"{words} --out {out} --seeds-until {half_width:.9g}", losses=of_weights_and_seed)
    assert sorted({name.split("-")[-1] for name in seen.cells}) == ["2", "3"]
    assert len(seen.cells) == 4
    assert set(seen.rows["seed"]) == {0, 1, 2, 3}
