"""`--seeds-until`: how many seeds it asks for, what it records, and what a continued study makes of that."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace

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
from studies.store.folder import RunFolder

DIFFERENCES = np.concatenate([[0.02, 0.05, 0.08], 0.05 + 0.02 * np.random.default_rng(0).standard_normal(97)])
DIGITS = load_dataset("digits")
HALF_WIDTH = 0.045  # bits/dim: the first three ask for 9 seeds


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """The numbers of seeds that studies were run with; their differences are made up."""
    numbers: list[int] = []

    def run_study(name, settings, cells, argv, dataset, executor=None):
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
    assert bound_differences(StudySettings(out=tmp_path, seeds=4)) == pytest.approx([0.01, 0.11, 0.21, 0.31])


def test_where_first_seeds_have_no_bound_none_are_added(tmp_path, asked, monkeypatch):
    def none_at_all(settings):
        raise seeds.NoDifferences("1 of 6 cells have no finite bound, as that one")

    monkeypatch.setattr(seeds, "bound_differences", none_at_all)
    _, closing = seeds.add_seeds("compare_objectives", settings(tmp_path), grid, [], DIGITS)
    assert asked == []
    assert files.first_stage(tmp_path) is None
    assert closing == "no seeds were added: 1 of 6 cells have no finite bound, as that one\n"


def test_where_later_seeds_have_no_bound_there_is_no_interval(tmp_path, asked, monkeypatch):
    def of_the_first(settings):
        if settings.seeds > 3:
            raise seeds.NoDifferences("1 of 18 cells have no finite bound, as that one")
        return list(DIFFERENCES[:3])

    monkeypatch.setattr(seeds, "bound_differences", of_the_first)
    outcome, closing = seeds.add_seeds("compare_objectives", settings(tmp_path), grid, [], DIGITS)
    assert (asked, len(outcome.finished)) == ([9], 18)
    assert closing.startswith("no interval by Stein's two-stage rule: 1 of 18 cells have no finite bound")


@pytest.mark.parametrize("bound", [None, np.inf, np.nan])
def test_a_cell_without_a_finite_bound_is_named(tmp_path, bound):
    """One that failed, and so has no rows, and one whose bound is no number; seeds beyond those asked for are not."""
    rows = []
    for seed, objective in itertools.product(range(3), ("epsilon_mse", "posterior_kl")):
        cell = Cell("digits", "linear", "epsilon", "beta_tilde", objective, "torch", seed)
        files.write_record(RunFolder(tmp_path).cell(cell.id), cell)
        value = bound if (seed, objective) == (1, "posterior_kl") else 3.0 + seed * (objective == "posterior_kl")
        if value is not None:
            rows.append({**asdict(cell), **files.row("bound", value, "bits/dim")})
    files.write_rows(tmp_path / "results.csv", rows)
    with pytest.raises(seeds.NoDifferences, match=r"1 of 6 cells .* digits-linear-.*-posterior_kl-torch-1$"):
        bound_differences(StudySettings(out=tmp_path, seeds=3))
    assert bound_differences(StudySettings(out=tmp_path, seeds=1)) == [0.0]


def test_seeds_without_a_difference_are_refused():
    """Cells of two objectives that differ in something else too."""
    settings = StudySettings(seeds=2, seeds_until=0.1)
    cells = [
        Cell("digits", "linear", "epsilon", variance, objective, "torch", seed)
        for variance, objective in (("beta_tilde", "posterior_kl"), ("learned_range", "hybrid"))
        for seed in range(2)
    ]
    with pytest.raises(ValueError, match="got digits-linear-epsilon-beta_tilde-posterior_kl-torch-0 without its partn"):
        seeds.check_sequential(settings, cells)
    seeds.check_sequential(settings, cells + [replace(cell, objective="posterior_kl") for cell in cells[2:]]
                           + [replace(cell, objective="hybrid") for cell in cells[:2]])  # fmt: skip
