"""The figure above the floor and the bound's tables: equal to the rows, silent where these are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from studies.harness.bound_table import bound_tables
from studies.harness.figures import figures_of
from studies.harness.figures.floors import above_floor
from studies.harness.figures.view import View
from studies.harness.reading import Run, read_run
from studies.harness.report import write_report
from tests.studies.synthetic_run import make_run

AT_T = ((1, 1), (2, 2), (3, 9), (10, 99), (100, 1000))
EVERYWHERE = {
    "bound_data_se": 0.02, "bound_step_se": 0.001, "bound_noise_se": 0.004, "rate": 3.0, "distortion": 0.1,
    "rmse": 0.07, "bound_floor": 0.2, "bound_above_floor": 2.9, "flow_decoder": 2.7, "flow_bound": 3.2,
    "flow_minus_bound": -0.5, "flow_examples": 8, "flow_decoder_tolerance": 0.014,
    "flow_decoder_solver_change": 0.001, "flow_decoder_unresolved": 0,
}  # fmt: skip


def run_with_truth(folder: Path, known: bool) -> Run:
    """A synthetic run whose cells have what `studies.harness.likelihood` adds; `known` data have an entropy."""
    make_run(folder, samples=False, samplers=[])
    rows = pd.read_csv(folder / "results.csv")
    keys = [name for name in rows.columns if name not in ("step", "t", "t_last", "sampler", "metric", "value", "unit")]
    keys.remove("standard_error")
    added = []
    for key, _ in rows.groupby(keys, dropna=False):
        cell = dict(zip(keys, key, strict=True))
        size = 1 + 0.1 * cell["seed"] + 0.5 * (cell["objective"] == "posterior_kl")
        for metric, value in {**EVERYWHERE, **({"entropy": 0.8, "bound_above_entropy": 2.0} if known else {})}.items():
            added.append({**cell, "metric": metric, "value": value, "standard_error": 0.03, "unit": "bits/dim"})
        for t, t_last in AT_T:
            for metric, value in (
                ("epsilon_mse_floor_at_t", 0.0 if t < 3 else 0.01),
                ("epsilon_mse_above_floor_at_t", size / t),
                ("bound_above_floor_at_t", size / t**2 if t > 1 else 0.0),
            ):
                where = {"t": t, "t_last": t_last, "standard_error": 0.001}
                added.append({**cell, "metric": metric, "value": value, "unit": "per dim", **where})
    pd.concat([rows, pd.DataFrame(added)]).to_csv(folder / "results.csv", index=False)
    return read_run(folder)


@pytest.fixture(scope="module", params=[True, False], ids=["density", "training set"])
def run(request, tmp_path_factory) -> Run:
    return run_with_truth(tmp_path_factory.mktemp("floors") / "run", request.param)


def test_figure_shows_means_and_intervals(run):
    plot = next(plot for plot in figures_of(run) if plot.name == "above-floor")
    assert len(plot.panels) == 3
    assert ("density that the data were drawn from" in plot.caption) == (run.rows["metric"] == "entropy").any()
    chosen = plot.data[(plot.data["panel"] == "epsilon MSE above its floor") & (plot.data["t"] == 2)]
    of_kl = chosen[chosen["recipe"] == "posterior_kl"].iloc[0]
    # Three seeds at 0.75, 0.8 and 0.85: Student's t with two degrees of freedom.
    assert of_kl["value"] == pytest.approx(0.8)
    assert of_kl["high"] - of_kl["value"] == pytest.approx(4.3027 * 0.05 / np.sqrt(3), rel=1e-4)
    loss = plot.data[(plot.data["panel"] == "loss") & (plot.data["t"] == 100) & (plot.data["recipe"] == "epsilon_mse")]
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


def test_page_has_them(run):
    page = write_report(run.folder).read_text()
    assert "How exact is the bound?" in page
    assert 'id="figure-above-floor"' in page


def test_older_runs_do_without(tmp_path):
    run = read_run(make_run(tmp_path / "run", seeds=1, samples=False, samplers=[]))
    view = View(run, "digits", run.rows)
    assert above_floor(view) is None
    assert bound_tables(view) == []
    assert "How exact is the bound?" not in write_report(tmp_path / "run").read_text()
