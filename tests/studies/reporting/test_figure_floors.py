"""The figure above the floor and the bound's tables: equal to the rows, silent where these are missing."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from studies.reporting.bound_table import bound_tables
from studies.reporting.figures import figures_of
from studies.reporting.figures.floors import above_floor
from studies.reporting.page import write_report
from studies.reporting.view import View, views_of
from studies.store.reading import Run, read_run
from tests.studies.synthetic_run import make_run, with_truth


@pytest.fixture(scope="module", params=[True, False], ids=["density", "training set"])
def run(request, tmp_path_factory) -> Run:
    folder = make_run(tmp_path_factory.mktemp("floors") / "run", samples=False, samplers=[])
    return read_run(with_truth(folder, request.param))


def test_figure_shows_means_and_intervals(run):
    plot = next(plot for plot in figures_of(views_of(run)) if plot.name == "above-floor")
    assert len(plot.panels) == 3
    assert ("density that the data were drawn from" in plot.caption) == (run.rows["metric"] == "entropy").any()
    chosen = plot.data[(plot.data["panel"] == "epsilon MSE above its floor") & (plot.data["t"] == 2)]
    of_kl = chosen[chosen["recipe"].astype(str) == "posterior_kl"].iloc[0]
    # Three seeds at 0.75, 0.8 and 0.85: Student's t with two degrees of freedom.
    assert of_kl["value"] == pytest.approx(0.8)
    assert of_kl["high"] - of_kl["value"] == pytest.approx(4.3027 * 0.05 / np.sqrt(3), rel=1e-4)
    of_mse = plot.data["recipe"].astype(str) == "epsilon_mse"
    loss = plot.data[(plot.data["panel"] == "loss") & (plot.data["t"] == 100) & of_mse]
    assert loss["value"].to_numpy() == pytest.approx(0.01 + 1.1 / 100)
    assert all("nan" not in panel.alt for panel in plot.panels)


def test_tables_show_the_rows(run):
    view = View(run, "digits", run.rows)
    truth, code = bound_tables(view)
    titles = [column["title"] for column in truth["columns"]]
    assert ("Above the entropy" in titles) == ("entropy" in set(run.rows["metric"]))
    assert [row["backend"] for row in truth["rows"]] == ["PyTorch", "Keras"] * 2
    for row in truth["rows"]:
        shown = dict(zip(titles, row["shown"], strict=True))
        assert shown["SE from noise"] == "0.0040"
        assert shown["Flow \N{MINUS SIGN} bound"].startswith("\N{MINUS SIGN}0.5")
    assert "8 test examples" in truth["caption"]
    assert "every example did" in truth["caption"]
    assert [column["title"] for column in code["columns"]][:2] == ["Rate", "Distortion, L₀"]


def test_floors_of_several_schedules_have_their_colours(tmp_path):
    """One floor where the schedule is one, one for each recipe where it varies; a single seed has no bands."""
    folder = make_run(tmp_path / "run", schedules=["linear", "cosine"], seeds=1, samples=False, samplers=[])
    both = read_run(with_truth(folder))
    for rows, floors in ((both.rows, 4), (both.rows[both.rows["schedule"] == "linear"], 1)):
        plot = above_floor(View(both, "digits", rows))
        assert plot is not None
        axes = Figure().subplots()
        plot.panels[0].draw(axes)
        assert len(axes.get_lines()) == 2 * rows["recipe"].nunique() + floors


def test_page_has_them(tmp_path):
    folder = make_run(tmp_path / "run", objectives=["hybrid"], backends=["torch"], seeds=1, samples=False, samplers=[])
    page = write_report(with_truth(folder)).read_text()
    assert "How exact is the bound?" in page
    assert 'id="figure-above-floor"' in page


def test_older_runs_do_without(tmp_path):
    run = read_run(make_run(tmp_path / "run", seeds=1, samples=False, samplers=[]))
    view = View(run, "digits", run.rows)
    assert above_floor(view) is None
    assert bound_tables(view) == []
