"""A report of a run with holes: cells that stopped half way, values that are not finite, numbers that do not vary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from studies.reporting.contrasts import by_t
from studies.reporting.page import make_report
from studies.reporting.plotting import Plot, log_axis
from studies.reporting.view import views_of
from studies.samplers import report as of_samplers
from studies.store.reading import read_run
from tests.studies.synthetic_run import make_run, make_sampler_run, with_truth

SAMPLERS = ("ancestral-20", "ancestral-100", "ancestral-1000")


def draw_alone(plot: Plot, folder: Path) -> None:
    """Has every panel drawn, in place of writing the figure's files, which takes seconds."""
    for panel in plot.panels:
        panel.draw(Figure().subplots())


@pytest.fixture(autouse=True)
def _figures_drawn_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.reporting.figures.save", draw_alone)
    monkeypatch.setattr("studies.reporting.page.images", lambda plot: [])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """Two objectives and two seeds, with every kind of row; and the rows."""
    folder = tmp_path_factory.mktemp("holes") / "run"
    with_truth(make_run(folder, seeds=2, backends=("torch",), samplers=SAMPLERS), known=True)
    return folder, pd.read_csv(folder / "results.csv")


def stages_up_to_the_bound(rows: pd.DataFrame) -> pd.Series:
    names = rows["metric"]
    begun = names.str.startswith(("train_", "bound", "epsilon_mse")) | names.isin(["rate", "distortion", "entropy"])
    return begun & ~names.str.contains("floor")


LOST = {
    "train": lambda rows: ~rows["metric"].str.startswith("train_"),
    "bound": lambda rows: ~stages_up_to_the_bound(rows),
    "random": lambda rows: rows["metric"].isin(
        np.random.default_rng(1).choice(sorted(set(rows["metric"])), rows["metric"].nunique() // 2, replace=False)
    ),
}
"""Which rows a cell lacks."""
OF = {
    "one": lambda rows: (rows["objective"] == "posterior_kl") & (rows["seed"] == 1),
    "recipe": lambda rows: rows["objective"] == "posterior_kl",
    "all": lambda rows: rows["seed"] >= 0,
}


@pytest.mark.parametrize(
    ("lost", "of"), [("train", "one"), ("bound", "recipe"), ("random", "recipe"), ("random", "all")]
)
def test_a_report_of_cells_that_stopped_half_way(run, lost, of):
    folder, rows = run
    rows[~(LOST[lost](rows) & OF[of](rows))].to_csv(folder / "results.csv", index=False)
    _, page = make_report(folder)
    assert "not finite" not in page.read_text()


@pytest.mark.parametrize("value", [0.0, -1.0, 1e300])
def test_a_report_of_numbers_that_do_not_vary(run, value):
    folder, rows = run
    rows.assign(value=value).to_csv(folder / "results.csv", index=False)
    text, _ = make_report(folder)
    assert text.startswith("2 seeds cannot tell the objectives apart by their bounds or samples")


@pytest.mark.parametrize(("of", "value"), [("one", np.nan), ("recipe", np.inf), ("all", np.nan)])
def test_values_that_are_not_finite_are_left_out_and_named(run, of, value):
    """As if they had not been measured: a cell of none but such values has no part in any comparison."""
    folder, rows = run
    rows.assign(value=rows["value"].where(~OF[of](rows), value)).to_csv(folder / "results.csv", index=False)
    text, page = make_report(folder)
    for said in (text, page.read_text()):
        assert "Values that are not finite, left out of tables and figures: " in said
        assert "posterior KL in PyTorch, seed 1 (epsilon MSE, posterior KL, bound of a single step and " in said
    if of == "all":
        assert text.startswith("No cell finished")
        return
    (view,) = views_of(read_run(folder))
    assert view.seeds == 2
    assert len(view.groups()) == (2 if of == "one" else 1)
    if of == "one":
        assert view.contrast("bound", "recipe", view.recipes[1], view.recipes[0]).left_out == (1,)


def test_a_running_total_needs_every_step(run):
    """A cell whose bound at one t is lost has no total, and is not taken for one whose bound is less by that term."""
    folder, rows = run
    rows.to_csv(folder / "results.csv", index=False)
    whole = read_run(folder).rows
    lost = (whole["metric"] == "bound_at_t") & (whole["t"] == 3) & (whole["seed"] == 0)
    assert set(by_t(whole)["seed"]) == {0, 1}
    assert set(by_t(whole[~lost])["seed"]) == {1}


@pytest.mark.parametrize("ends", [(0.0, 0.0), (0.0, 1.0), (-1.0, 1.0), (1.0, np.inf), (np.nan, 1.0), (2.0, 2.0)])
def test_an_axis_without_a_range_in_the_logarithm_is_linear(ends):
    ax = Figure().subplots()
    log_axis(ax, "y", *ends)
    assert ax.get_yscale() == "linear"
    log_axis(ax, "y", 0.1, 2.0)
    assert (ax.get_yscale(), ax.get_ylim()) == ("log", (0.1, 2.0))


def without(*metrics: str) -> Any:
    return lambda rows: rows[~rows["metric"].isin(metrics)]


@pytest.mark.parametrize(
    ("change", "headline"),
    [
        (without("frechet"), "Not answered: no chain's samples have a Fréchet distance"),
        (lambda rows: rows[rows["metric"].str.endswith("_floor")], "Not answered: no chain's samples have"),
        (lambda rows: rows[:2].assign(metric="samples_not_finite", value=3.0), "Not answered: no chain's samples"),
        (lambda rows: rows.assign(value=0.0), "Not answered: "),
        (lambda rows: rows[~rows["metric"].str.endswith("_floor")], "In part: "),
    ],
    ids=["no distance", "only floors", "not finite", "zero", "no floors"],
)
def test_a_study_of_samplers_without_some_scores(tmp_path, change, headline):
    folder = make_sampler_run(tmp_path / "run", steps=(20, 50, 1000), seeds=2)
    change(pd.read_csv(folder / "results.csv")).to_csv(folder / "results.csv", index=False)
    text, page = of_samplers.make_report(folder)
    assert text.startswith(headline)
    for said in (text, page.read_text()):
        assert "get not finite" not in said
        assert "against not finite" not in said
