"""What the page says beside its lines, and the row of samples under its verdict."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from studies.reporting.figures.coinciding import coinciding
from studies.reporting.figures.glance import glance
from studies.reporting.view import View, views_of
from studies.store.reading import read_run
from tests.studies.synthetic_run import make_many, make_run


def view_of(folder) -> View:
    (view,) = views_of(read_run(folder))
    return view


def test_samples_under_the_verdict_are_the_first_of_the_main_sampler(tmp_path):
    """A strip of each recipe, of its first framework; the arrays of the file are those of the cells."""
    view = view_of(make_run(tmp_path / "run", curves=False))
    plot = glance(view)
    assert plot is not None
    assert list(dict.fromkeys(plot.data["cell"])) == ["epsilon MSE", "posterior KL"]
    for recipe, label in zip(view.recipes, ("epsilon MSE", "posterior KL"), strict=True):
        cell = view.cell(recipe, "torch")
        assert cell is not None
        expected = cell.samples()["ancestral-100"][:10].reshape(10, -1)
        drawn = plot.data[plot.data["cell"] == label].filter(like="x_").to_numpy()
        assert drawn == pytest.approx(expected)


def test_of_many_recipes_the_best_few_are_shown(tmp_path):
    view = view_of(make_many(tmp_path / "run", curves=False, samplers=["ancestral-100"]))
    plot = glance(view)
    assert plot is not None
    assert plot.data["cell"].nunique() == 3
    assert "of the 3 best recipes" in plot.caption


def test_without_samples_there_is_no_row(tmp_path):
    assert glance(view_of(make_run(tmp_path / "run", samples=False, samplers=[], curves=False))) is None


@pytest.mark.parametrize(
    ("apart", "words"), [(0.0, "coincide"), (0.009, "coincide"), (0.05, "up to 5 % of the range"), (None, "")]
)
def test_lines_of_frameworks_are_said_to_coincide_where_they_do(tmp_path, apart, words):
    """Keras lies `apart` of the range above PyTorch at one step of one recipe; None: there is one framework."""
    backends = ["torch"] if apart is None else ["torch", "keras"]
    view = view_of(make_run(tmp_path / "run", backends=backends, samples=False, samplers=[], curves=False))
    rows = [
        {"recipe": recipe, "backend": backend, "step": step, "mean": step / 10}
        for recipe in view.recipes for backend in backends for step in range(11)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.loc[(table["backend"] == "keras") & (table["step"] == 3) & (np.arange(len(table)) < 30), "mean"] += apart or 0
    said = coinciding(view, table, "mean", ["step"])
    assert words in said
    assert bool(said) == bool(words)
