"""When cells are compiled: by request, or where a run is long enough for what compiling was measured to gain."""

from __future__ import annotations

import pytest

from backends.capabilities import TORCH
from studies.datasets import load_dataset
from studies.plan import compiling, costs
from studies.plan.settings import StudySettings
from studies.store.cells import Cell
from studies.study import announcement

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
