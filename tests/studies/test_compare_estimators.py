"""The study of estimators: its table, its costs against closed forms, and the command from start to finish."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backends import installed_backends
from backends.checkpoints import save_network
from backends.networks import initial_weights
from core.estimators import strata_of
from core.reverse import reverse_process
from core.schedules import linear
from core.timesteps import uniform
from studies.cell.bound import evaluate_terms
from studies.estimators.cell import from_table
from studies.estimators.report import make_report
from studies.estimators.rivals import cost_at, history_probabilities, independent, one_grid
from studies.estimators.table import read_table, save_table, tabulate, tabulated_steps
from studies.plan.command import to_json
from studies.plan.grid import grid
from studies.plan.settings import StudySettings
from studies.store import files
from studies.store.folder import CellFolder, RunFolder
from tests.studies.synthetic_measurements import make_estimator_run

ROOT = Path(__file__).resolve().parents[2]
T = 150
PROCESS = reverse_process(linear(T))
TEST = np.random.default_rng(0).standard_normal((12, 3))
SCALE = np.append(0.0, 1 / np.arange(1, T + 1))


def terms(draws):
    """Per step, example and noise different, with a known variance over the noise."""
    value = np.mean((draws.epsilon + draws.x_0) ** 2, axis=1)
    return value, SCALE[draws.t] * value


@pytest.fixture(scope="module")
def table():
    return tabulate(terms, PROCESS, TEST, seed=0, num_draws=40)


def study(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "studies/compare_estimators.py", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_every_step_has_a_column_near_it(table):
    """Each t up to 100 its own; beyond, the tabulated step nearest to it."""
    steps = tabulated_steps(strata_of(PROCESS))
    assert steps[:100].tolist() == list(range(1, 101))
    for t in range(1, T + 1):
        assert abs(steps[table.column[t]] - t) == np.min(np.abs(steps - t))


def test_table_is_what_the_terms_are(table, tmp_path):
    """Its sweep's error and limit are those known, to what 12 x 40 draws can tell, and a saved table is the same."""
    variance = SCALE[1:] ** 2 * np.mean(2 / 3 + 4 * TEST**2 / 3)
    assert table.fresh_sweep_error == pytest.approx(np.sqrt(variance.sum() / len(TEST)), rel=0.2)
    assert table.limit == pytest.approx(SCALE.sum() ** 2 / np.sum(SCALE**2), rel=0.3)
    assert table.bound == pytest.approx(SCALE.sum() * (1 + np.mean(TEST**2)), rel=0.1)
    save_table(tmp_path / "terms.npz", table)
    again = read_table(tmp_path / "terms.npz")
    np.testing.assert_allclose(again.kl, table.kl, rtol=1e-6)
    assert again.num_steps == T
    assert again.first(5).num_examples == 5


def test_a_sweep_of_the_network_scatters_as_the_table_says(table):
    """40 real sweeps: their scatter is known to 11 %, the table's error to a few; 3 sigma."""
    rng = np.random.default_rng(0)
    example, t = np.tile(np.arange(len(TEST)), T), np.repeat(np.arange(1, T + 1), len(TEST))
    values = []
    for _ in range(40):
        noise = rng.standard_normal(TEST[example].shape)
        values.append(evaluate_terms(terms, TEST[example], noise, t, 256)[1].sum() / len(TEST))
    assert np.std(values, ddof=1) == pytest.approx(table.fresh_sweep_error, rel=0.4)


def test_cost_of_independent_steps_is_their_variance(table):
    """Simulated with the cost found, uniform t has the error of one sweep; 400 repeats know it to 3.5 %; 4 sigma."""
    cost = independent(table, np.full(T, 1 / T))
    rng = np.random.default_rng(0)
    draws, errors = 40, np.empty(400)
    for k in range(len(errors)):
        t = uniform(rng.random(len(TEST) * draws), T).t
        example = np.tile(np.arange(len(TEST)), draws)
        values = table.kl[example, table.column[t], rng.integers(table.num_draws, size=t.size)]
        errors[k] = T * values.mean() - table.bound
    assert np.std(errors) * np.sqrt(draws / cost) == pytest.approx(table.sweep_error, rel=0.14)


def test_importance_costs_less_and_one_grid_less_again(table):
    """Uniform t is the dearest; by second moments the cost is within a few times the limit."""
    p = history_probabilities(table, np.random.default_rng(0))
    imported = independent(table, p)
    assert table.limit < imported < 0.2 * independent(table, np.full(T, 1 / T))
    assert one_grid(table, p, np.random.default_rng(0)) < 1.1 * imported


def test_estimates_from_the_table_are_unbiased_and_cover(table):
    """150 estimates: their mean within 4 errors of the table's sum; coverage 95 % but for a chance of 1 in 1,000."""
    found = from_table(table, PROCESS, 40, range(150))
    assert found.evaluations == 40
    assert abs(found.value.mean() - table.bound) < 4 * found.value.std() / np.sqrt(150)
    assert 0.88 <= found.coverage(table.bound) <= 0.994


@pytest.mark.parametrize("guess", [3.0, 30.0, 300.0])
def test_cost_is_found_from_any_guess(guess):
    """An error that falls as the root of the evaluations, and one of a pilot's 5 beside them."""
    assert cost_at(lambda k: 10 / np.sqrt(k), 1.0, guess, most=1000) == pytest.approx(100, rel=1e-9)
    found = cost_at(lambda k: 10 / np.sqrt(max(k - 5, 1)), 1.0, guess, most=1000)
    assert found == pytest.approx(105, rel=0.03)


@pytest.mark.parametrize("error", [lambda k: 3.0, lambda k: 1e-9 / k, lambda k: 5 + 1e-3 * np.sin(k)])
def test_a_cost_stays_within_its_ends(error):
    """An error that hardly falls, as with a handful of test examples, would be extrapolated to any number."""
    assert 1.0 <= cost_at(error, 1.0, 30.0, most=1000) <= 2000


def test_a_diverged_model_has_no_table():
    with pytest.raises(ValueError, match=r"^terms at t = 1 are not finite: the model has diverged"):
        tabulate(lambda d: (terms(d)[0], np.inf * terms(d)[1]), PROCESS, TEST, seed=0, num_draws=2)


def test_models_that_differ_in_any_factor_have_tables_of_their_own(tmp_path):
    """Two ways of drawing t in two precisions: four tables, each with its own costs; and so in the figure's data."""
    out = make_estimator_run(tmp_path / "out")
    said, path = make_report(out)
    lines = said.splitlines()
    ours = [line.split()[-4::2] for line in lines if line.startswith("this harness, pilot")]
    names = ["uniform t · float32", "uniform t · bfloat16", "t by importance · float32", "t by importance · bfloat16"]
    assert [line for line in lines if line in names] == names
    assert ours == [["15.0", "27.0"], ["1,015", "1,027"], ["2,015", "2,027"], ["3,015", "3,027"]]
    page = path.read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert path == out / "report.html"
    for numbers in (["15.0 (1.2×)", "27.0 (1.1×)"], ["3,015 (1.0×)", "3,027 (1.0×)"]):  # noqa: RUF001
        assert "".join(f"<td>{number}</td>" for number in numbers) in re.sub(r' data-of="[^"]*"', "", page)
    plotted = pd.read_csv(out / "figures" / "evaluations.csv")
    assert not plotted.duplicated(["timesteps", "dtype", "examples", "estimator"]).any()


def test_the_answer_in_words(tmp_path):
    """Ours takes 15 to 3,027 evaluations in the made-up study, and a sweep 158 to 3,170: 9.5 to 95 %."""
    said, path = make_report(make_estimator_run(tmp_path / "out"))
    first, *_, others, coverage = said.splitlines()
    assert first == (
        "The bound to the error bar of one full sweep over t takes 15.0 to 3,027 network evaluations per test example,"
        " 9.5 to 95 % of the sweep\N{RIGHT SINGLE QUOTATION MARK}s"
    )
    assert "its history counted, takes 28.0 to 3,040, uniform t 98.0 to 3,110, the best allocation over t" in others
    assert "hold the truth in 95.0 % of the simulated repeats (standard error 1.0 %): none by more" in coverage
    page = path.read_text().replace("\N{NO-BREAK SPACE}", " ")
    for sentence in (first, others, coverage):
        assert sentence in page
    assert "met" not in said.replace("method", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--noise-draws", "1"], "--noise-draws is at least 2, got 1"),
        (["--run", "nowhere"], "nowhere: expected a run's folder with settings.json in it"),
        (["--examples", "1"], "--examples are numbers of at least 2, or 0 for all, got 1"),
        (["--network-repeats", "1"], "--network-repeats is 0 or at least 2, got 1"),
        (["--cells", "seed=0"], "--cells chooses among the cells of a run; name it with --run"),
        (["--run", "a", "--out", "a"], "--out is a folder of its own, got the run's own folder a; give another"),
    ],
)
def test_bad_words_end_in_one_line(words, message, tmp_path):
    done = study("--out", str(tmp_path / "out"), *words) if "--out" not in words else study(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run as a study leaves it, with a network that has learned nothing."""
    run = tmp_path_factory.mktemp("estimators") / "run"
    points = np.random.default_rng(0).normal(0, 0.5, (60, 2)).clip(-1, 1)
    np.savez(run.parent / "points.npz", train=points[:40], test=points[40:])
    settings = StudySettings(
        dataset=str(run.parent / "points.npz"), objectives=("posterior_kl",), backends=(installed_backends()[0],),
        seeds=1, num_steps=60, mlp_width=16, mlp_depth=1,
    )  # fmt: skip
    files.open_run(run, to_json(settings), "compare_objectives")
    for cell in grid(settings):
        folder, network = RunFolder(run).cell(cell.id).path, settings.network((2,), False)
        files.write_json(folder / "cell.json", {"factors": asdict(cell)})
        save_network(folder / "checkpoint.safetensors", initial_weights(network, cell.seed), network)
        files.write_rows(CellFolder(folder).rows, [{**asdict(cell), **files.row("parameters", 1, "weights")}])
    return run


FEW = ("--noise-draws", "2", "--repeats", "20", "--network-repeats", "2")


def test_the_command_compares_and_reports(trained, tmp_path):
    """Costs and calibration at every number of examples, a report; again: nothing is redone or overwritten."""
    out = tmp_path / "out"
    words = ("--run", str(trained), "--out", str(out), "--examples", "8", "0", *FEW)
    done = study(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {out / 'report.html'}"
    rows = pd.read_csv(out / "results.csv")
    assert set(rows["examples"]) == {8, 20}
    costs = rows[rows["metric"] == "evaluations"].set_index(["estimator", "examples"])["value"]
    assert costs["full_sweep", 8] == 60
    assert costs["importance_with_history", 8] - costs["importance", 8] == pytest.approx(600 / 8)
    assert 0 < costs["ours", 20] < costs["uniform", 20]
    assert np.isfinite(costs).all()
    report = (out / "report.html").read_text()
    for text in ("pilot counted", "95 % intervals", "too few repeats to tell", "How to reproduce"):
        assert text in report
    assert (out / "figures" / "evaluations.png").stat().st_size > 5000
    written = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/*")}
    assert study(*words).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("cells/*/*")} == written
    other = study(*words, "--noise-draws", "3")
    assert other.returncode == 2
    assert "noise_draws 2 there, 3 asked" in other.stderr


def test_more_examples_than_there_are(trained, tmp_path):
    done = study("--run", str(trained), "--out", str(tmp_path / "out"), "--examples", "21")
    assert done.returncode == 2
    assert done.stderr == "error: --examples are at most 20 for this run's test set, got 21\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_without_a_run_two_models_are_trained(tmp_path):
    out = tmp_path / "out"
    done = study("--out", str(out), "--train-steps", "3", "--examples", "4", *FEW)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = pd.read_csv(out / "results.csv")
    assert set(rows["objective"]) == {"epsilon_mse", "hybrid"}
