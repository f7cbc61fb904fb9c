"""`--seeds-until`: how many seeds it asks for, what it records, and what a continued study makes of that."""

from __future__ import annotations

import itertools
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from backends import installed_backends
from studies.datasets import load_dataset
from studies.plan.grid import grid
from studies.plan.settings import StudySettings
from studies.run import seeds
from studies.run.runner import Outcome
from studies.run.seeds import bound_differences
from studies.statistics import sequential_interval, stein_seeds
from studies.store import files
from studies.store.cells import Cell

DIFFERENCES = np.concatenate([[0.02, 0.05, 0.08], 0.05 + 0.02 * np.random.default_rng(0).standard_normal(97)])
DIGITS = load_dataset("digits")
HALF_WIDTH = 0.045  # bits/dim: the first three ask for 9 seeds


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """The numbers of seeds that studies were run with; their differences are made up."""
    numbers: list[int] = []

    def run_study(name, settings, cells, argv, dataset):
        numbers.append(settings.seeds)
        assert len(cells) == 2 * settings.seeds
        return Outcome(finished=[cell.id for cell in cells], failed={})

    monkeypatch.setattr(seeds, "run_study", run_study)
    monkeypatch.setattr(seeds, "bound_differences", lambda settings: list(DIFFERENCES[: settings.seeds]))
    return numbers


def settings(out, **changes) -> StudySettings:
    return StudySettings(out=out, backends=tuple(installed_backends()[:1]), seeds_until=HALF_WIDTH, **changes)


def test_the_first_seeds_set_how_many_are_run(tmp_path, asked):
    expected = stein_seeds(DIFFERENCES[:3], HALF_WIDTH)
    assert expected == 9
    outcome, closing = seeds.add_seeds("compare_objectives", settings(tmp_path), grid, [], DIGITS)
    assert asked == [expected]
    assert len(outcome.finished) == 2 * expected
    assert files.first_stage(tmp_path) == 3
    assert str(sequential_interval(DIFFERENCES[:expected], first=3)) in closing
    assert f"{expected} seeds, Stein's two-stage rule" in closing


def test_a_continued_study_keeps_its_first_stage(tmp_path, asked):
    """With more seeds asked for at the start, the first 3 still set the number, and none that ran is left out."""
    expected = stein_seeds(DIFFERENCES[:3], HALF_WIDTH)
    seeds.add_seeds("compare_objectives", settings(tmp_path), grid, [], DIGITS)
    seeds.add_seeds("compare_objectives", settings(tmp_path, seeds=5), grid, [], DIGITS)
    seeds.add_seeds("compare_objectives", settings(tmp_path, seeds=expected + 2), grid, [], DIGITS)
    assert asked == [expected, expected, expected + 2]
    assert files.first_stage(tmp_path) == 3


def test_a_run_without_it_has_no_first_stage(tmp_path):
    assert files.first_stage(tmp_path) is None


@pytest.mark.parametrize("written_before", [slice(None), slice(10)])
def test_differences_of_a_run_that_older_seeds_are_part_of(tmp_path, written_before):
    """Rows from before a factor was one, all or some, are of the value that there was: paired with the others."""
    cells = itertools.product(range(4), ("epsilon_mse", "posterior_kl"), ("torch", "keras"))
    rows = []
    for seed, objective, backend in cells:
        cell = Cell("digits", "linear", "epsilon", "beta_tilde", objective, backend, seed)
        value = 3 + seed + (objective == "posterior_kl") * (0.1 * seed + 0.02 * (backend == "keras"))
        rows.append({**asdict(cell), **files.row("bound", value, "bits/dim")})
    frame = pd.DataFrame(rows)
    frame.loc[frame.index[written_before], ["timesteps", "dtype"]] = None
    frame.dropna(axis=1, how="all").to_csv(tmp_path / "results.csv", index=False)
    assert bound_differences(StudySettings(out=tmp_path)) == pytest.approx([0.01, 0.11, 0.21, 0.31])
