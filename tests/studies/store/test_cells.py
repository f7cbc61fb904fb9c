"""The list of factors: everything that tells cells apart is made from it, and nothing writes the list again."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from studies.plan.grid import grid
from studies.plan.grouping import groups_of
from studies.plan.settings import StudySettings
from studies.reporting.tables import HEADINGS
from studies.store.cells import FACTORS, Cell, Factor
from studies.store.files import COLUMNS, write_rows
from studies.store.reading import recipe_factors, with_later_factors, with_recipes

STUDIES = Path(__file__).resolve().parents[3] / "studies"
CELL = Cell("digits", "linear", "epsilon", "beta_tilde", "hybrid", "torch", 0)
MOST = 3
"""Names of factors that may stand together: a figure has that many axes, but from four on it is the list again."""


OTHER = {"seed": 1, "variance": "beta", "backend": "keras"}
"""Another value of each factor that a program is planned by; of the others any text is one."""


def pair(factor: Factor) -> list[Cell]:
    """Two cells that differ in the factor alone."""
    return [CELL, dataclasses.replace(CELL, **{factor.name: OTHER.get(factor.name, "cosine")})]


each_factor = pytest.mark.parametrize("factor", FACTORS, ids=lambda factor: factor.name)


def test_columns_and_names_on_disk_stay():
    """Runs of earlier versions are read by these."""
    assert COLUMNS == (
        "dataset", "schedule", "prediction", "variance", "objective", "timesteps", "dtype", "backend", "seed",
        "step", "t", "t_last", "sampler", "metric", "value", "standard_error", "unit",
    )  # fmt: skip
    assert CELL.id == "digits-linear-epsilon-beta_tilde-hybrid-torch-0"
    other = Cell("digits", "cosine:250", "v", "beta", "hybrid", "keras", 12, "importance", "bfloat16")
    assert other.id == "digits-cosine_250-v-beta-hybrid-importance-bfloat16-keras-12"


def test_a_cell_and_the_settings_have_every_factor():
    assert {field.name for field in dataclasses.fields(Cell)} == {factor.name for factor in FACTORS}
    assert {factor.setting for factor in FACTORS} <= {field.name for field in dataclasses.fields(StudySettings)}


@each_factor
def test_cells_that_differ_in_it_alone_are_told_apart(factor, tmp_path):
    """By the names of their folders and by their rows as they are read back."""
    cells = pair(factor)
    assert len({cell.id for cell in cells}) == 2
    write_rows(tmp_path / "rows.csv", [{**dataclasses.asdict(cell), "value": 1.0} for cell in cells])
    rows = with_later_factors(pd.read_csv(tmp_path / "rows.csv"))
    assert [name for name in rows if rows[name].nunique(dropna=False) > 1] == [factor.name]


@each_factor
def test_it_is_part_of_recipes_or_not(factor):
    """A comparison of recipes is made within a dataset, a framework and a seed; all else is what is compared."""
    rows = with_recipes(pd.DataFrame([dataclasses.asdict(cell) for cell in pair(factor)]))
    compared = factor.name not in ("dataset", "backend", "seed")
    assert factor.in_recipe is compared
    assert rows["recipe"].nunique() == (2 if compared else 1)
    assert recipe_factors(rows) == ([factor.name] if compared else ["objective"])


@each_factor
def test_cells_train_as_one_program_where_it_allows_that(factor):
    """Those that differ in the objective or the seed alone."""
    together = StudySettings(together="on", device="cpu")
    groups = groups_of(pair(factor), together, (8, 8, 1), jobs=1, on_gpu=False)
    assert factor.shares_program is (factor.name in ("objective", "seed"))
    assert len(groups) == (1 if factor.shares_program else 2)


@pytest.mark.parametrize("factor", [factor for factor in FACTORS if factor.name != "dataset"], ids=lambda f: f.name)
def test_the_grid_has_every_value_of_its_setting(factor, monkeypatch):
    monkeypatch.setattr("studies.plan.grid.check_cells", lambda cells, settings: None)
    held = StudySettings(backends=("torch",), objectives=("hybrid",), seeds=1)
    asked = 2 if factor.name == "seed" else ("linear", "cosine")
    cells = grid(held.replace(**{factor.setting: asked}))
    assert [getattr(cell, factor.name) for cell in cells] == ([0, 1] if factor.name == "seed" else list(asked))


@each_factor
def test_a_report_has_a_heading_for_it(factor):
    assert HEADINGS[factor.name] == factor.heading
    assert HEADINGS["run"] == "Run"


@pytest.mark.parametrize("factor", [factor for factor in FACTORS if factor.before is not None], ids=lambda f: f.name)
def test_cells_of_older_runs_lack_it(factor):
    """Their cell.json, folders and rows are those of cells that have the value from before."""
    older = {name: value for name, value in dataclasses.asdict(CELL).items() if name != factor.name}
    assert Cell(**older) == CELL
    added_to = pd.DataFrame([older, dataclasses.asdict(pair(factor)[1])])
    assert with_later_factors(added_to)[factor.name].tolist() == [factor.before, "cosine"]
    assert with_later_factors(added_to.drop(columns=factor.name))[factor.name].tolist() == [factor.before] * 2


def lists_of_factors(source: str) -> Iterator[int]:
    """Lines with a literal or a call in which more than MOST factors stand side by side, in quotes or as attributes."""
    names = {factor.name for factor in FACTORS}
    attributes = names | {factor.setting for factor in FACTORS}
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.expr | None] = []
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            parts = [*node.elts]
        elif isinstance(node, ast.Dict):
            parts = [*node.keys]
        elif isinstance(node, ast.Call):
            parts = [*node.args, *(keyword.value for keyword in node.keywords)]
        quoted = {part.value for part in parts if isinstance(part, ast.Constant)} & names
        read = {part.attr for part in parts if isinstance(part, ast.Attribute)} & attributes
        if len(quoted) + len(read) > MOST:
            yield node.lineno


@pytest.mark.parametrize(
    "source",
    [
        'MODEL = ("dataset", "schedule", "prediction", "backend", "seed")',
        'HEADINGS = {"objective": "", "prediction": "", "variance": "", "dtype": "Precision"}',
        "key = (cell.dataset, cell.schedule, cell.prediction, cell.variance)",
        "product(settings.schedules, settings.predictions, settings.variances, settings.objectives)",
    ],
)
def test_a_list_of_factors_is_seen(source):
    assert list(lists_of_factors(source)) == [1]


def test_no_other_module_lists_the_factors():
    """A second list is one that a new factor is missing from, and cells that differ in it alone become one."""
    modules = sorted(STUDIES.rglob("*.py"))
    assert STUDIES / "store" / "cells.py" in modules
    found = [
        f"{path.relative_to(STUDIES)}:{line}"
        for path in modules
        if path != STUDIES / "store" / "cells.py"
        for line in lists_of_factors(path.read_text(encoding="utf-8"))
    ]
    assert not found
