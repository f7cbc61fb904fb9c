"""When cells are compiled: by request, or where a run is long enough for what compiling was measured to gain."""

from __future__ import annotations

import pytest

from studies.harness import compiling
from studies.harness.cells import Cell
from studies.harness.settings import StudySettings
from studies.harness.study import announcement

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
    network, enough = LONG.network(DIGITS, False), compiling.PRICE["torch"] / compiling.GAIN["torch"]
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
    lines = announcement(settings, cells, DIGITS).splitlines()
    assert next(line.strip() for line in lines if "compiled" in line).startswith(said)
    assert sum("compiled" in line for line in lines) == 2


def test_a_cell_runs_in_its_own_precision():
    settings = StudySettings(dtypes=("float32", "bfloat16"))
    network = settings.network(DIGITS, False)
    assert compiling.execution_of(cell("torch", "bfloat16"), network, settings).dtype == "bfloat16"
