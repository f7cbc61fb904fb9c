"""The study of samplers on a tiny run: what it draws and says, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import installed_backends
from backends.checkpoints import save_network
from backends.networks import initial_weights
from studies.metrics.evaluation import LEAST
from studies.plan.command import to_json
from studies.plan.grid import grid
from studies.plan.settings import StudySettings
from studies.reporting.contrasts import values
from studies.reporting.names import sampler_family, sampler_name, sampler_steps
from studies.reporting.view import View
from studies.samplers.report import make_report
from studies.samplers.settings import LEAST_SAMPLES, SamplerSettings, chains
from studies.samplers.verdict import headline, ratios, sentences, table_of
from studies.store import files
from studies.store.cells import chosen_cells
from studies.store.folder import CellFolder, RunFolder
from studies.store.reading import Run, with_recipes
from tests.studies.synthetic_run import make_sampler_run

ROOT = Path(__file__).resolve().parents[2]
BACKEND = installed_backends()[0]
STEPS, SAMPLES = ("--steps", "20", "50", "1000"), ("--samples", "24")
WORDS = (*STEPS, *SAMPLES)
NAMES = ["ancestral-50", "ddim-50", "dpm_solver-50", "dpm_solver-50-logsnr"]


def compare(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the script as a user would, from the checkout."""
    return subprocess.run(
        [sys.executable, "studies/compare_samplers.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run as a study leaves it, with networks that have learned nothing."""
    run = tmp_path_factory.mktemp("samplers") / "run"
    points = np.random.default_rng(0).normal(0, 0.5, (180, 2)).clip(-1, 1)
    np.savez(run.parent / "points.npz", train=points[:120], test=points[120:])
    settings = StudySettings(
        dataset=str(run.parent / "points.npz"), backends=(BACKEND,), seeds=2, num_steps=60, mlp_width=16, mlp_depth=1
    )
    files.open_run(run, to_json(settings), "compare_objectives")
    for cell in grid(settings):
        folder, network = RunFolder(run).cell(cell.id).path, settings.network((2,), False)
        files.write_json(folder / "cell.json", {"factors": cell.__dict__})
        save_network(folder / "checkpoint.safetensors", initial_weights(network, cell.seed), network)
        files.write_rows(CellFolder(folder).rows, [{**cell.__dict__, **files.row("parameters", 1, "weights")}])
    return run


@pytest.fixture(scope="module")
def compared(trained):
    out = trained.parent / "samplers"
    return out, compare("--run", str(trained), "--out", str(out), "--cells", "seed=0", *WORDS)


def test_the_command_ends_with_an_answer_and_a_report(compared):
    out, done = compared
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 cells of ")
    assert lines[-1] == f"report: {out / 'report.html'}"
    assert any(line.startswith(("Yes: ", "No: ", "In part: ")) for line in lines)
    assert "of ancestral sampling in 50 steps" in done.stdout
    assert "Ancestral sampling in 50 steps gets a Fréchet distance of" in done.stdout
    for kind in ("png", "pdf", "svg", "csv"):
        assert (out / "figures" / f"quality-by-evaluations.{kind}").stat().st_size > 500
    page = (out / "report.html").read_text()
    assert "data:image/svg+xml" in page
    assert "http-equiv" in page
    assert "StrictUndefined" not in page


def test_rows_are_tidy_and_every_metric_has_its_floor(compared):
    out, _ = compared
    results = pd.read_csv(out / "results.csv")
    assert tuple(results.columns) == files.COLUMNS
    expected = {name.replace("50", str(steps)) for name in NAMES for steps in (20, 50)}
    for _, rows in results.groupby(["objective", "seed"]):
        assert set(rows["sampler"]) == expected  # T is 60, so 1000 steps are left out
        for metric in ("frechet", "frechet_features", "sliced_w2", "precision", "recall"):
            for name in (metric, f"{metric}_floor"):
                assert set(rows[rows["metric"] == name]["sampler"]) == expected
    assert results.groupby("metric")["value"].nunique()["frechet_floor"] == 1


def test_cells_of_a_seed_and_chains_share_their_noise(compared):
    """Both objectives' networks are the same untrained one here, so their samples are the same; chains are not."""
    out, _ = compared
    first, second = (dict(np.load(path)) for path in sorted(out.glob("cells/*/samples.npz")))
    for name, samples in first.items():
        np.testing.assert_array_equal(samples, second[name])
        assert samples.shape == (24, 2)
    assert not np.array_equal(first["ddim-20"], first["ancestral-20"])


def test_the_same_folder_goes_on_with_further_cells(trained, compared):
    out, _ = compared
    written = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/*")}
    done = compare("--run", str(trained), "--out", str(out), *WORDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 4 cells are finished already" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in written} == written
    results = pd.read_csv(out / "results.csv")
    assert set(results["seed"]) == {0, 1}
    assert "2 seeds" in done.stdout


def test_a_cell_without_a_network_is_left_out_and_a_broken_one_is_refused(trained, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(trained, run)
    diverged, broken, _, fourth = sorted(run.glob("cells/*"))
    shutil.rmtree(fourth)
    (diverged / "checkpoint.safetensors").unlink()
    (broken / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    words = (
        "--run",
        str(run),
        "--out",
        str(out),
        "--steps",
        "2",
        "--samplers",
        "ddim",
        "--samples",
        "20",
        "--jobs",
        "1",
    )
    refused = compare(*words)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert f"{broken.name}/checkpoint.safetensors is not a safetensors file, or not a whole one" in refused.stderr
    assert not out.exists()
    (broken / "checkpoint.safetensors").unlink()
    done = compare(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"left out, not finished or without a network: {diverged.name}, {broken.name}" in done.stdout
    assert "Not answered: it takes an ancestral chain" in done.stdout
    assert broken.name not in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "no/such/run"], "no/such/run: expected a run's folder with settings.json in it"),
        (["--samplers", "euler"], "unknown sampler 'euler'; known: ancestral, ddim, dpm_solver"),
        (["--samplers", "ddim-cubic"], "unknown spacing 'cubic' in --samplers ddim-cubic; known: uniform"),
        (["--steps", "0"], "--steps are numbers of at least 1, got 0"),
        (["--steps", "61"], "no chain is left of --samplers and --steps"),
        (["--samples", "19"], "--samples is at least 20, got 19"),
        (["--clip-x-0", "-1"], "clip bounds x_0_hat to [-clip, clip] and is positive, got -1.0"),
        (["--cells", "colour=red"], "--cells takes factor=value[,value]"),
        (["--cells", "seed=7"], "--cells seed=7: no such cell; the run has 0, 1"),
        (["--samples", "30"], "samples 24 there, 30 asked"),
    ],
)
def test_bad_input_is_one_line(trained, compared, words, message):
    out, _ = compared
    run = [] if "--run" in words else ["--run", str(trained)]
    before = (out / "settings.json").read_bytes()
    done = compare(
        *run,
        "--out",
        str(out),
        *(() if "--steps" in words else STEPS),
        *(() if "--samples" in words else SAMPLES),
        *words,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert (out / "settings.json").read_bytes() == before


def test_the_least_number_of_samples_is_that_of_the_metrics():
    assert LEAST_SAMPLES == LEAST


def test_help_names_every_setting():
    done = compare("--help")
    assert done.returncode == 0
    for name in json.loads(to_json(SamplerSettings())):
        assert f"--{name.replace('_', '-')}" in done.stdout


def test_chains_are_drawn_once_and_the_solver_stops_early():
    settings = SamplerSettings(samplers=("ancestral", "ancestral-quadratic", "dpm_solver"), steps=(10, 100, 50))
    settings = replace(settings, dpm_solver_up_to=50)
    names = [chain.name for chain in chains(settings, 100)]
    assert names == [
        "ancestral-100", "ancestral-50", "ancestral-50-quadratic", "dpm_solver-50",
        "ancestral-10", "ancestral-10-quadratic", "dpm_solver-10",
    ]  # fmt: skip
    assert {chain.steps for chain in chains(settings, 20)} == {10}


def test_cells_are_chosen_by_factor():
    cells = grid(StudySettings(backends=(BACKEND,), seeds=3))
    chosen = chosen_cells(cells, ["seed=0,2", "objective=posterior_kl"])
    assert [(cell.objective, cell.seed) for cell in chosen] == [("posterior_kl", 0), ("posterior_kl", 2)]
    assert chosen_cells(cells, []) == cells


@pytest.mark.parametrize(
    ("sampler", "family", "steps", "name"),
    [
        ("ddim-50", "ddim", 50, "DDIM, 50 steps"),
        ("dpm_solver-20-logsnr", "dpm_solver-logsnr", 20, "DPM-Solver++ (log SNR), 20 steps"),
        ("ancestral", "ancestral", None, "ancestral"),
    ],
)
def test_names_of_chains(sampler, family, steps, name):
    assert (str(sampler_family(sampler)), sampler_steps(sampler), sampler_name(sampler)) == (family, steps, name)


def scored(distances: dict[str, float], spread: float = 1.0, floor: float = 0.5) -> pd.DataFrame:
    """Rows of two seeds, `spread` times apart, of one objective."""
    factors = {"dataset": "digits", "schedule": "linear", "prediction": "epsilon", "variance": "beta_tilde"}
    factors |= {"objective": "epsilon_mse", "backend": "torch"}
    rows = []
    for seed, scale in enumerate((1.0, spread)):
        for name, value in distances.items():
            own = value if name.startswith("ancestral") else value * scale
            rows.append({**factors, "seed": seed, **files.row("frechet", own, "1", sampler=name)})
            rows.append({**factors, "seed": seed, **files.row("frechet_floor", floor, "1", sampler=name)})
    return with_recipes(pd.DataFrame(rows, columns=list(files.COLUMNS)))


def view_of(rows: pd.DataFrame) -> View:
    return View(Run("made-up", Path(), {}, {}, rows, ()), "digits", rows)


def test_the_distances_of_a_chain_are_tabled_once(tmp_path, monkeypatch):
    """Page and closing table, headline and sentences ask one view."""
    tabled = Counter()

    def counted(rows, metric, sampler=None):
        tabled[metric, sampler] += 1
        return values(rows, metric, sampler)

    monkeypatch.setattr("studies.reporting.view.values", counted)
    monkeypatch.setattr("studies.samplers.report.write_figures", lambda plots, folder: None)
    closing_table, page = make_report(make_sampler_run(tmp_path / "run", steps=(20, 50), seeds=2))
    chains = ("ancestral-50", "ddim-50", "dpm_solver-20", "dpm_solver-20-logsnr")
    assert tabled == {("frechet", chain): 1 for chain in chains}
    assert closing_table.splitlines()[0] in page.read_text().replace("\N{NO-BREAK SPACE}", " ")


@given(st.floats(0.5, 2), st.floats(0.8, 1.25))
def test_the_ratio_is_the_geometric_mean_over_seeds(ratio, spread):
    """Against the longest ancestral chain, with the interval symmetric in its log."""
    distances = {"ancestral-10": 9.0, "ancestral-1000": 2.0, "ddim-50": 2 * ratio, "ddim-10": 7.0}
    (one,) = ratios(view_of(scored(distances, spread)))
    assert one.reference == "ancestral-1000"
    assert one.ratio.estimate == pytest.approx(ratio * np.sqrt(spread), rel=1e-12)
    assert one.ratio.low * one.ratio.high == pytest.approx(one.ratio.estimate**2, rel=1e-9)
    assert one.reached == (one.ratio.estimate <= 1.1)


def test_the_answer_in_words():
    rows = scored({"ancestral-1000": 2.0, "ddim-50": 2.1, "dpm_solver-20-logsnr": 3.0})
    assert headline(view_of(rows)) == (
        "In part: DDIM in 50 steps reaches within 10 % of the Fréchet distance of ancestral sampling in 1,000 steps,"
        " but not DPM-Solver++ (log SNR) in 20 steps"
    )
    assert sentences(view_of(rows))[:2] == [
        "Ancestral sampling in 1,000 steps gets a Fréchet distance of 2.00 (epsilon MSE); real data at the same sample"
        " size get 0.500, the floor.",
        "DDIM in 50 steps: epsilon MSE 1.05 times that (95 % interval 1.05 to 1.05, 2 seeds), within 10 % (over the"
        " floor: 1.60 against 1.50).",
    ]
    other = rows.assign(objective="posterior_kl")
    other.loc[other["sampler"] == "ddim-50", "value"] = 2.5
    both = with_recipes(pd.concat([rows, other]))
    assert headline(view_of(both)).startswith("In part: DDIM in 50 steps (epsilon MSE) reaches within 10 %")
    assert headline(view_of(both)).endswith("in 1,000 steps; the other 3 do not")
    assert headline(view_of(scored({"ancestral-1000": 2.0, "ddim-50": 2.1}))).startswith("Yes: DDIM in 50 steps")
    assert headline(view_of(scored({"ancestral-1000": 2.0, "ddim-50": 2.3}))).startswith("No: DDIM in 50 steps")
    assert headline(view_of(scored({"ddim-50": 2.3}))).startswith("Not answered")
    assert table_of(view_of(rows)).steps == [20, 50, 1000]


def test_samples_none_of_which_is_finite_are_reported(tmp_path):
    """There is no figure and no distance, and every chain is named."""
    folder = make_sampler_run(tmp_path / "run", steps=(20, 50), seeds=1)
    rows = pd.read_csv(folder / "results.csv")
    lost = rows[rows["metric"] == "frechet"].assign(metric="samples_not_finite", value=768.0)
    lost.to_csv(folder / "results.csv", index=False)
    said, path = make_report(folder)
    assert said.startswith("Not answered: ")
    page = path.read_text().replace("\N{NO-BREAK SPACE}", " ")
    for chain in ("ancestral, 50 steps", "DDIM, 20 steps", "DPM-Solver++ (log SNR), 20 steps"):
        sentence = f"{chain}: samples of 4 cells are not finite, and not scored."
        assert sentence in said
        assert sentence in page
    assert not (folder / "figures").exists() or not any((folder / "figures").iterdir())


def test_an_unsure_answer_says_so_and_lost_samples_are_named():
    rows = scored({"ancestral-1000": 2.0, "ddim-50": 2.1}, spread=1.1)
    lost = rows.iloc[[0]].assign(metric="samples_not_finite", sampler="dpm_solver-20", value=3.0)
    said = sentences(view_of(pd.concat([rows, lost])))
    assert "though the interval crosses that limit" in said[1]
    assert said[-1] == "DPM-Solver++, 20 steps: samples of 1 cell are not finite, and not scored."
