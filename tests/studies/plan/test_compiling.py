"""When cells are compiled: by request, or where a run is long enough for what compiling was measured to gain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backends.capabilities import TORCH
from core.timesteps import SecondMoments
from studies.datasets import load_dataset
from studies.plan import compiling, costs
from studies.plan.announcement import announcement
from studies.plan.settings import PRESETS, StudySettings
from studies.store.cells import Cell

DIGITS = (8, 8, 1)
LONG = StudySettings(train_steps=100_000, device="cpu")


def cell(backend: str, dtype: str = "float32") -> Cell:
    return Cell("digits", "linear", "epsilon", "beta_tilde", "epsilon_mse", backend, 0, dtype=dtype)


def compiles(backend: str, settings: StudySettings) -> bool:
    return compiling.execution_of(cell(backend), settings.network(DIGITS, False), settings).compile


def test_long_runs_are_compiled_where_that_gains():
    short = StudySettings(device="cpu")
    assert not compiles("torch", short)
    assert compiles("torch", LONG)
    assert not compiles("keras", LONG)
    assert not compiles("torch", LONG.replace(widths=(32, 64)))
    assert not compiles("torch", LONG.replace(threads=1000))  # a minute's training again


def test_on_a_gpu_only_what_was_asked_for():
    assert not compiles("torch", LONG.replace(device="cuda"))
    assert compiles("torch", LONG.replace(device="cuda", compile="on"))


@pytest.mark.parametrize("backend", ["torch", "keras"])
def test_what_is_asked_for_is_done(backend):
    assert compiles(backend, StudySettings(compile="on"))
    assert not compiles(backend, LONG.replace(compile="off"))


def test_the_longest_run_that_is_not_compiled_is_as_long_as_the_gain_allows():
    network, enough = LONG.network(DIGITS, False), TORCH.compiling_on_cpu.seconds / TORCH.compiling_on_cpu.share
    for steps in range(1000, 100_000, 1000):
        settings = LONG.replace(train_steps=steps)
        found = compiling.estimate(network, "torch", settings)
        assert found.pays == compiles("torch", settings) == (found.training > enough)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (StudySettings(device="cpu"), "torch is not compiled: it would save about "),
        (LONG, "torch is compiled: it would save about "),
        (LONG.replace(compile="off"), "torch is not compiled, as asked"),
        (LONG.replace(device="cuda"), "torch is not compiled: on a GPU only with --compile on"),
    ],
)
def test_the_study_says_what_was_decided(settings, said):
    cells = [cell("torch"), cell("keras")]
    lines = announcement(settings, cells, load_dataset("digits", None)).splitlines()
    assert next(line.strip() for line in lines if "compiled" in line).startswith(said)
    assert sum("compiled" in line for line in lines) == 2


def test_a_cell_runs_in_its_own_precision():
    settings = StudySettings(dtypes=("float32", "bfloat16"))
    network = settings.network(DIGITS, False)
    assert compiling.execution_of(cell("torch", "bfloat16"), network, settings).dtype == "bfloat16"


def test_time_is_estimated_from_what_a_cell_has_to_compute():
    """Twice the steps are twice the training; each evaluation adds a third of what a trained example does."""
    settings = StudySettings(batch_size=10, train_steps=1000, samples=0, full_samples=0, bound_evaluations=50)
    network = settings.network(DIGITS, False)
    training = costs.training_seconds(network, settings)
    assert costs.training_seconds(network, settings.replace(train_steps=2000, threads=2)) == pytest.approx(training)
    assert costs.cell_seconds(network, settings, 200) == pytest.approx(costs.START + training * (1 + 1 / 3))
    sampled = settings.replace(samples=100, sample_steps=50, full_samples=5, num_steps=1000)
    assert costs.cell_seconds(network, sampled, 200) == pytest.approx(costs.START + training * (1 + 2 / 3))


def test_the_default_study_announces_its_quarter_of_an_hour():
    """12 cells on 2 cores; a study of points, which waits for something else than arithmetic, announces none."""
    default, digits = StudySettings(device="cpu", jobs=2), load_dataset("digits", None)
    (last,) = (line for line in announcement(default, [cell("torch")] * 12, digits).splitlines() if "minutes" in line)
    assert 12 <= int(last.split()[1]) <= 18
    assert "minutes" not in announcement(default, [cell("torch")], load_dataset("swiss_roll", None))
    small = announcement(default.replace(train_steps=4, samples=1, full_samples=0), [cell("torch")], digits)
    assert "  about 1 minute on idle CPU cores" in small
    assert "  torch is not compiled: training takes less than a second a cell" in small.splitlines()


def test_chains_of_a_schedule_s_own_length_are_counted_as_long_as_they_are():
    """Three cells of T = 50, 1000 and 4000 on one core: the minutes are those of all three."""
    settings = StudySettings(device="cpu", jobs=1, full_samples=200, sample_steps=50)
    digits = load_dataset("digits", None)
    network = settings.network(digits.shape, False)
    cells = [replace(cell("torch"), schedule=f"cosine:{length}") for length in (1000, 4000, 50)]
    said = announcement(settings, cells, digits)
    seconds = [costs.cell_seconds(network, settings.replace(num_steps=t), len(digits.test)) for t in (50, 1000, 4000)]
    assert "T = 50, 1000, 4000, then" in said
    assert f"  about {sum(seconds) / 60:,.0f} minutes" in said
    evaluation = costs.training_seconds(network, settings.replace(train_steps=1, batch_size=1)) / 3
    assert seconds[2] - seconds[1] == pytest.approx(200 * 3000 * evaluation)
    assert seconds[1] - seconds[0] == pytest.approx(200 * 1000 * evaluation)  # at T = 50 none are drawn beside
    assert "  note: samples are by the whole chain where T = 50 or less: none are drawn beside them" in said
    assert "whole chain" not in announcement(settings.replace(sampler="ddim"), cells, digits)
    assert "whole chain" not in announcement(settings.replace(full_samples=0), cells, digits)


@pytest.mark.parametrize(("num_steps", "batch"), [(100, 32), (1000, 64), (40, 7)])
def test_importance_sampling_begins_when_it_is_said_to(num_steps, batch):
    """Of 200 simulated trainings exp(-0.5), 0.61, have ten losses at every t by then: 121 ± 7, with 5 deviations."""
    rng = np.random.default_rng(0)
    after = costs.steps_to_warm(num_steps, batch)
    warm = 0
    for _ in range(200):
        counts = np.bincount(rng.integers(0, num_steps, after * batch), minlength=num_steps)
        warm += SecondMoments(np.zeros((num_steps, 10)), counts).warm
    assert 121 - 35 <= warm <= 121 + 35


def test_importance_sampling_that_hardly_begins_is_said_before():
    """The smoke preset: t is uniform for most of its 60 steps."""
    digits = load_dataset("digits", 60)
    smoke = StudySettings(**PRESETS["smoke"], device="cpu")
    importance = replace(cell("torch"), timesteps="importance")
    after = costs.steps_to_warm(100, 32)
    line = f"  note: importance sampling of T = 100 begins after about {after} steps, of 60; t is uniform until then"
    assert line in announcement(smoke, [cell("torch"), importance], digits).splitlines()
    assert "importance" not in announcement(smoke, [cell("torch")], digits)
    assert "importance" not in announcement(StudySettings(device="cpu"), [importance], digits)


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("digits", "  a U-Net of widths 16, 32"),
        ("swiss_roll", "  a perceptron of width 128 and depth 3, as examples are"),
    ],
)
def test_the_network_that_is_trained_is_said(dataset, said):
    """Points take no notice of --widths, images none of --mlp-width."""
    assert f"\n{said}" in announcement(StudySettings(device="cpu"), [cell("torch")], load_dataset(dataset, None))
