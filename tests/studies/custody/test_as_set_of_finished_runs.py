"""As set, for studies of a finished run: every flag of compare_samplers and compare_estimators reaches its place."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from core.samplers import ancestral_step, ddim_step, dpm_solver_step
from core.schedules import cosine
from tests.studies.custody.command import Commands, FlagTests, Seen, comparable, of_noise, words_of
from tests.studies.custody.entry import ESTIMATOR_FLAGS, SAMPLER_FLAGS, write_points
from tests.studies.custody.fake_backend import FakeNetwork, MadeTerms, Terms

OF_SAMPLERS, OF_ESTIMATORS = FlagTests(SAMPLER_FLAGS), FlagTests(ESTIMATOR_FLAGS)


@pytest.fixture(scope="module")
def finished(commands: Commands) -> Seen:
    """A run of two objectives."""
    return commands.study("--objectives epsilon_mse posterior_kl --flow-examples 0 --test-examples 9")


@pytest.fixture(scope="module")
def another(commands: Commands) -> Seen:
    """With test examples enough for estimates at about a sweep's cost to be told apart from their pilots."""
    data = write_points(commands.folder / "many.npz", test=160)
    words = f"--dataset {data} --test-examples 150 --flow-examples 0"
    return commands.study(f"{words} --first-variance beta --num-steps 5 --dtypes float64 --seeds 2")


def test_every_flag_has_a_test():
    assert OF_SAMPLERS.tests.keys() == SAMPLER_FLAGS.keys()
    assert OF_ESTIMATORS.tests.keys() == ESTIMATOR_FLAGS.keys()


def weights_of(seen: Seen) -> list[Any]:
    return [comparable(evaluation.network.weights) for evaluation in seen.fake.evaluations]


# compare_samplers.

SAMPLING = {
    "--samplers": "ancestral ddim",
    "--steps": "4 12",
    "--samples": "20",
    "--cells": "objective=epsilon_mse",
    "--device": "cpu",
    "--jobs": "1",
}


@pytest.fixture(scope="module")
def sampling(commands: Commands, finished: Seen) -> Callable[..., Seen]:
    def run(changes: str = "", **options: Any) -> Seen:
        flags = {"--run": str(finished.out), **SAMPLING}
        return commands.run("compare_samplers", words_of(flags, changes), changes, **options)

    return run


@pytest.fixture
def sampled(commands: Commands, sampling: Callable[..., Seen], request: pytest.FixtureRequest) -> Iterator[Any]:
    commands.given.clear()
    yield sampling
    OF_SAMPLERS.check_given(commands.given, request)


@pytest.fixture(scope="module")
def plain_samples(sampling: Callable[..., Seen]) -> Seen:
    return sampling()


def drawn(seen: Seen) -> list[tuple[Any, int, int]]:
    """Sampler, length and number of samples of every chain, in order."""
    return [(chain.sampler.func, chain.process.num_steps, len(chain.x_T)) for chain in seen.chains()]


def all_of(seen: Seen) -> dict[str, Any]:
    """What reached the chains of a study of samplers, by what flags change."""
    chains = seen.chains()
    (process,) = seen.processes
    parts = {
        "networks": [network.weights for network in seen.fake.of(FakeNetwork)],
        "process": [chain.process for chain in chains],
        "sampler": [chain.sampler for chain in chains],
        "noise": [(chain.x_T, chain.noise) for chain in chains],
        "execution": [chain.execution for chain in chains],
        "environment": process.env,
    }
    return {name: comparable(part) for name, part in parts.items()}


def differing(one: Seen, other: Seen) -> set[str]:
    before, after = all_of(one), all_of(other)
    return {name for name in before if before[name] != after[name]}


def test_the_plain_samples(plain_samples, finished):
    """Longest first; of the average of the cell's weights, on its own process, compared by the same noise."""
    assert drawn(plain_samples) == [
        (ancestral_step, 12, 20), (ddim_step, 12, 20), (ancestral_step, 4, 20), (ddim_step, 4, 20),
    ]  # fmt: skip
    (network,) = plain_samples.fake.of(FakeNetwork)
    assert comparable(network.weights) == weights_of(finished)[0]
    assert {chain.sampler.keywords["clip"] for chain in plain_samples.chains()} == {None}
    assert {dataclasses.astuple(chain.execution) for chain in plain_samples.chains()} == {("cpu", "float32", False)}
    for chain in plain_samples.chains():
        np.testing.assert_array_equal(chain.x_T, plain_samples.chains()[0].x_T)


@OF_SAMPLERS.of("preset")
def test_the_smoke_preset_of_sampling(sampled, commands, finished):
    """Fewer and shorter chains of the first seed's cells; its numbers stand in `test_defaults`."""
    words = words_of({"--run": str(finished.out), "--jobs": "1"}, "--preset smoke")
    seen = commands.run("compare_samplers", words, "--preset smoke", samples=np.full((64, 3), np.nan))
    steps = (ancestral_step, ddim_step, dpm_solver_step, dpm_solver_step)
    assert drawn(seen) == [(step, 10, 60) for step in steps] * 2
    assert seen.cells == finished.cells


@OF_SAMPLERS.of("run")
def test_the_run_that_is_sampled(sampled, another):
    """Its cells, weights, chain, first variance and precision."""
    seen = sampled(f"--run {another.out} --cells seed=1 --steps 4 5")
    (network,) = seen.fake.of(FakeNetwork)
    assert comparable(network.weights) == weights_of(another)[1]
    assert [chain.process.num_steps for chain in seen.chains()] == [5, 5, 4, 4]
    assert {chain.process.first_variance for chain in seen.chains()} == {"beta"}
    assert {chain.execution.dtype for chain in seen.chains()} == {"float64"}


@OF_SAMPLERS.of("out")
def test_the_folder_of_samples(sampled, commands, finished):
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*")}
    out = commands.folder / "samples"
    seen = sampled(f"--out {out}")
    assert {path.name for path in out.iterdir()} == {"cells", "environment.json", "results.csv", "settings.json"}
    assert seen.processes[0].arguments[0] == str(out)
    assert {path: path.stat().st_mtime_ns for path in finished.out.rglob("*")} == before


@OF_SAMPLERS.of("samplers")
def test_samplers(sampled):
    seen = sampled("--samplers dpm_solver dpm_solver-logsnr ddim-quadratic --steps 5")
    steps = [dpm_solver_step, dpm_solver_step, ddim_step]
    assert [chain.sampler.func for chain in seen.chains()] == steps
    for chain, spacing in zip(seen.chains(), (5, "logsnr5", "quadratic5"), strict=True):
        np.testing.assert_array_equal(chain.process.schedule.steps, cosine(12).respaced(spacing).steps)
    assert list(dict.fromkeys(seen.rows["sampler"])) == ["dpm_solver-5", "dpm_solver-5-logsnr", "ddim-5-quadratic"]


@OF_SAMPLERS.of("steps")
def test_steps(sampled):
    """Longest first; what is longer than T is left out."""
    assert [length for _, length, _ in drawn(sampled("--steps 3 40 6"))] == [6, 6, 3, 3]


@OF_SAMPLERS.of("dpm_solver_up_to")
def test_dpm_solver_up_to(sampled):
    seen = sampled("--samplers dpm_solver ddim --steps 3 5 12 --dpm-solver-up-to 5")
    lengths = {
        step: [length for used, length, _ in drawn(seen) if used is step] for step in (dpm_solver_step, ddim_step)
    }
    assert lengths == {dpm_solver_step: [5, 3], ddim_step: [12, 5, 3]}


@OF_SAMPLERS.of("samples")
def test_samples_of_each_chain(sampled, plain_samples):
    seen = sampled("--samples 23", samples=np.full((64, 3), np.nan))
    assert differing(plain_samples, seen) == {"noise"}
    assert [count for *_, count in drawn(seen)] == [23] * 4
    scored = seen.rows[seen.rows["metric"] == "samples_not_finite"]
    assert scored["value"].tolist() == [23 * 3] * 4


@OF_SAMPLERS.of("clip_x_0")
def test_clip_x_0(sampled, plain_samples):
    seen = sampled("--clip-x-0 0.5")
    assert differing(plain_samples, seen) == {"sampler"}
    x_t = np.zeros((1, 3))
    for chain in seen.chains():
        _, x_0_hat = chain.sampler(chain.process, x_t, x_t + 9.0, np.array([3]), x_t, x_t)
        assert np.abs(x_0_hat).max() == 0.5


@OF_SAMPLERS.of("interpolations")
def test_interpolations(sampled, plain_samples, commands, finished):
    """One chain more: DDIM in the longest of the steps, from 11 mixes each of the first two pairs of test examples.

    Zeros as epsilon_hat leave x_t over the signal what it is from x_1 to x_T.
    """
    seen = sampled("--interpolations 2", samples=np.full((64, 3), np.nan))
    assert drawn(seen) == [*drawn(plain_samples), (ddim_step, 12, 22)]
    with np.load(finished.out / "reference.npz") as arrays:
        test = arrays["test"][:4].reshape(2, 2, -1).astype(np.float64)
    alpha_bar = cosine(12).alpha_bar
    ends = seen.chains()[-1].x_T.reshape(2, 11, -1)[:, [0, -1]]
    np.testing.assert_allclose(ends, test * np.sqrt(alpha_bar[12] / alpha_bar[1]), rtol=1e-6)
    (path,) = seen.out.glob("cells/*/interpolations.npz")
    with np.load(path) as arrays:
        np.testing.assert_allclose(arrays["ends"], test, rtol=1e-6)
    assert not list(plain_samples.out.glob("cells/*/interpolations.npz"))


@OF_SAMPLERS.of("cells")
def test_the_cells_that_are_sampled(sampled, finished):
    seen = sampled("--cells objective=posterior_kl")
    assert [comparable(network.weights) for network in seen.fake.of(FakeNetwork)] == weights_of(finished)[1:]
    assert set(seen.rows["objective"]) == {"posterior_kl"}
    assert sorted(sampled("--cells", execute=False).cells) == sorted(finished.cells)


@OF_SAMPLERS.of("device")
def test_the_device_of_sampling(sampled, plain_samples):
    """Whatever the run was made on."""
    seen = sampled("--device cuda")
    assert differing(plain_samples, seen) == {"execution"}
    assert {chain.execution.device for chain in seen.chains()} == {"cuda"}


@OF_SAMPLERS.of("jobs")
def test_jobs_of_sampling(sampled):
    seen = sampled("--cells --jobs 2", execute=False, at_once=2)
    assert (len(seen.processes), seen.most_at_once) == (2, 2)


@OF_SAMPLERS.of("threads")
def test_threads_of_sampling(sampled, plain_samples):
    seen = sampled("--threads 3")
    assert differing(plain_samples, seen) == {"environment"}
    assert [process.env["OMP_NUM_THREADS"] for process in seen.processes] == ["3"]


# compare_estimators.

ESTIMATING = {
    "--examples": "6",
    "--noise-draws": "2",
    "--repeats": "20",
    "--network-repeats": "0",
    "--cells": "objective=epsilon_mse",
    "--device": "cpu",
    "--jobs": "1",
}


@pytest.fixture(scope="module")
def estimating(commands: Commands, finished: Seen) -> Callable[..., Seen]:
    def run(changes: str = "", **options: Any) -> Seen:
        flags = {"--run": str(finished.out), **ESTIMATING}
        return commands.run("compare_estimators", words_of(flags, changes), changes, **options)

    return run


@pytest.fixture
def estimated(commands: Commands, estimating: Callable[..., Seen], request: pytest.FixtureRequest) -> Iterator[Any]:
    commands.given.clear()
    yield estimating
    OF_ESTIMATORS.check_given(commands.given, request)


def table_shape(seen: Seen) -> tuple[int, ...]:
    """Of the tabulated terms: examples, steps and draws of noise."""
    (path,) = seen.out.glob("cells/*/terms.npz")
    with np.load(path) as table:
        shape: tuple[int, ...] = table["kl"].shape
        return shape


def repeats_behind(seen: Seen, metric: str) -> float:
    """How many estimates a ratio of errors is of, from its own error, ratio / sqrt(2 count)."""
    row = seen.rows[seen.rows["metric"] == metric].iloc[0]
    return float(0.5 * (row["value"] / row["standard_error"]) ** 2)


@OF_ESTIMATORS.of("run", "cells", "examples", "noise_draws", "repeats", "network_repeats", "device")
def test_estimates(estimated, commands, another):
    """Of the first 100 test examples and of all 150, 500 being more than there are; every number is one of a kind."""
    seen = estimated(
        f"--run {another.out} --cells seed=1 --examples 0 100 500 --noise-draws 3 --repeats 25 --network-repeats 4"
        " --device cuda",
        losses=of_noise,
    )
    (made,) = seen.fake.of(MadeTerms)
    assert comparable(made.network.weights) == weights_of(another)[1]
    assert (made.process.num_steps, made.process.first_variance) == (5, "beta")
    assert {dataclasses.astuple(way) for way in (made.execution, made.network.execution)} == {
        ("cuda", "float64", False)
    }
    assert table_shape(seen) == (150, 5, 3)
    tabulated = np.concatenate([terms.draws.x_0 for terms in seen.fake.of(Terms)])
    with np.load(commands.folder / "many.npz") as arrays:
        assert np.unique(tabulated, axis=0).tolist() == np.unique(arrays["test"][:150], axis=0).tolist()
    assert list(dict.fromkeys(seen.rows["examples"])) == [100, 150]
    assert repeats_behind(seen, "computed_over_scatter") == pytest.approx(25)
    assert repeats_behind(seen, "network_computed_over_scatter") == pytest.approx(4)
    for estimator, count in (("ours", 25), ("ours_network", 4)):  # a share of so many intervals
        held = count * seen.rows.query(f"metric == 'coverage' and estimator == '{estimator}'")["value"]
        assert len(held) == 2
        np.testing.assert_allclose(held, np.rint(held), atol=1e-9)


@OF_ESTIMATORS.of("preset")
def test_the_smoke_preset_of_estimating(estimated, commands, another):
    """Of a run's models fewer estimates; where there is no run, its own models are small ones of the same preset."""
    words = words_of({"--run": str(another.out), "--jobs": "1", "--cells": "seed=1"}, "--preset smoke")
    seen = commands.run("compare_estimators", words, "--preset smoke", losses=of_noise)
    assert table_shape(seen) == (48, 5, 4)
    assert repeats_behind(seen, "computed_over_scatter") == pytest.approx(40)
    assert repeats_behind(seen, "network_computed_over_scatter") == pytest.approx(4)
    alone = commands.run("compare_estimators", ["--preset", "smoke", "--jobs", "1"], execute=False)
    models = json.loads((alone.out / "models" / "settings.json").read_text())
    asked = {"preset": "smoke", "train_steps": 60, "widths": [8, 16], "num_steps": 100, "test_examples": 60, "seeds": 1}
    assert {name: models[name] for name in asked} == asked
    assert len(alone.cells) == 2


@OF_ESTIMATORS.of("out", "train_steps", "threads")
def test_without_a_run_two_models_are_trained_in_out(estimated, commands):
    """By --train-steps steps each, on --device, with --jobs and --threads."""
    out = commands.folder / "estimates"
    words = words_of({**ESTIMATING, "--threads": "3", "--train-steps": "7"}, f"--out {out}")
    commands.given |= {"--out", "--train-steps", "--threads"}
    words = [word for word in words if word not in ("--cells", "objective=epsilon_mse")]
    seen = commands.run("compare_estimators", words, execute=False)
    models = json.loads((out / "models" / "settings.json").read_text())
    asked = {"train_steps": 7, "device": "cpu", "jobs": 1, "threads": 3, "dataset": "digits"}
    assert {name: models[name] for name in asked} == asked
    assert [name.split("-")[3:5] for name in seen.cells] == [["beta_tilde", "epsilon_mse"], ["learned_range", "hybrid"]]
    for process in seen.processes:
        assert process.arguments[0] == str(out / "models")
        assert process.env["OMP_NUM_THREADS"] == "3"


@OF_ESTIMATORS.of("cells")
def test_the_cells_whose_bound_is_estimated(estimated, finished):
    seen = estimated("--cells objective=posterior_kl", execute=False)
    assert seen.cells == finished.cells[1:]


@OF_ESTIMATORS.of("jobs")
def test_jobs_of_estimating(estimated):
    seen = estimated("--cells --jobs 2", execute=False, at_once=2)
    assert (len(seen.processes), seen.most_at_once) == (2, 2)


@OF_ESTIMATORS.of("threads")
def test_threads_of_estimating(estimated):
    seen = estimated("--threads 3", execute=False)
    assert [process.env["OMP_NUM_THREADS"] for process in seen.processes] == ["3"]
