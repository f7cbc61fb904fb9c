"""The page and the files of a report: complete, self-contained, equal to the data, for every shape of study."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from studies.reporting.contrasts import levels_in, one_factor_apart, values
from studies.reporting.figures import figures_of
from studies.reporting.names import difference_name
from studies.reporting.page import closing_table, make_report, write_comparison, write_report
from studies.reporting.plotting import images, save
from studies.reporting.ranking import ranking
from studies.reporting.tables import dataset_tables
from studies.reporting.view import views_of
from studies.statistics import sequential_interval
from studies.store.cells import LATER_FACTORS
from studies.store.reading import read_run, recipe_factors
from studies.store.recipes import Recipe
from tests.studies.synthetic_run import make_run

LOADING = {"script", "iframe", "object", "embed", "video", "audio", "base", "form"}
FAILED = "digits-linear-epsilon-beta_tilde-posterior_kl-keras-1"


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The default study, with a failed cell and one that never finished."""
    folder = make_run(tmp_path_factory.mktemp("report") / "run", failed=[FAILED])
    (folder / "cells" / FAILED.replace("-1", "-2") / "rows.csv").unlink()
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run) -> Page:
    return Page((run / "report.html").read_text())


def test_sections_come_in_order(page):
    ids = [
        attributes["id"]
        for _, attributes in page.elements
        if attributes.get("id") in {"verdict", "numbers", "figures", "method"}
    ]
    assert ids == ["verdict", "numbers", "figures", "method"]


def test_every_image_loads_and_has_alternative_text(page):
    shown = page.all("img")
    assert len(shown) >= 15
    for image in shown:
        assert len(image["alt"] or "") > 20
    for uri in [image["src"] for image in shown] + [source["srcset"] for source in page.all("source")]:
        kind, _, content = str(uri).partition(";base64,")
        assert kind == "data:image/svg+xml"
        root = ElementTree.fromstring(base64.b64decode(content, validate=True))
        assert root.tag.endswith("svg")
        assert root.get("viewBox")


def test_nothing_is_requested(page, run):
    """The only addresses outside are those of links a reader may follow."""
    assert not LOADING & {name for name, _ in page.elements}
    for name, attributes in page.elements:
        for key, value in attributes.items():
            if key in {"src", "srcset", "data", "poster", "background"} or (key == "href" and name != "a"):
                assert str(value).startswith("data:"), (name, key)
    text = (run / "report.html").read_text()
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    for uri in (image["src"] for image in page.all("img")):
        svg = base64.b64decode(str(uri).partition(",")[2]).decode()
        outside = re.findall(r'(?:href|src)="(?!#|data:)([^"]*)"', svg)
        assert outside == []


def test_links_to_files_are_relative_and_there(page, run):
    local = [link["href"] for link in page.all("a") if not str(link["href"]).startswith(("http", "#"))]
    assert len(local) >= 4 * 8
    for href in local:
        assert (run / str(href)).stat().st_size > 0


def test_troubles_are_named(page):
    assert f"1 cell failed: {FAILED} (the loss became NaN at step 214)" in page.text
    assert "Not finished yet: digits-linear-epsilon-beta_tilde-posterior_kl-keras-2" in page.text
    assert "without seed 1" in page.text


def test_what_the_bound_rests_on_is_stated(page):
    assert "Reverse variance at t = 1" in page.text
    assert "first_variance = next" in page.text
    assert "is not clipped while sampling" in page.text
    assert "python studies/compare_objectives.py --seeds 3" in page.text
    assert "0123abc" in page.text
    assert "torch 2.8.0" in page.text


def test_table_shows_the_mean_of_every_group(page, run):
    rows = pd.read_csv(run / "results.csv")
    bound = rows[rows["metric"] == "bound"].groupby(["objective", "backend"])["value"].mean()
    for mean in bound:
        assert f"{mean:.3f}"[:4] in page.text


def test_figures_have_all_their_files_and_the_data_they_show(run):
    rows = pd.read_csv(run / "results.csv")
    names = {path.stem for path in (run / "figures").iterdir()}
    assert names >= {
        "effects",
        "losses",
        "weights-drift",
        "bound-by-t",
        "bound-by-term",
        "samples",
        "sample-quality",
        "denoising",
        "neighbours",
        "cost",
    }
    for name in names:
        assert {path.suffix for path in (run / "figures").glob(f"{name}.*")} == {".csv", ".png", ".pdf", ".svg"}
    losses = pd.read_csv(run / "figures" / "losses.csv").set_index(["metric", "recipe", "backend", "step"])
    for unit, metric in (("per dim", "train_epsilon_mse"), ("bits/dim", "train_posterior_kl")):
        curves = rows[(rows["metric"] == metric) & (rows["unit"] == unit)]
        grouped = curves.groupby(["objective", "backend", "step"])["value"]
        for key, mean in grouped.mean().items():
            assert losses.loc[(metric, *key), "mean"] == pytest.approx(mean, rel=1e-12)
        assert len(grouped) == (losses.index.get_level_values(0) == metric).sum()
    effects = pd.read_csv(run / "figures" / "effects.csv")
    chosen = effects[(effects["metric"] == "bound") & (effects["factor"] == "recipe") & (effects["within"] == "torch")]
    bound = rows[(rows["metric"] == "bound") & (rows["backend"] == "torch")].pivot(
        index="seed", columns="objective", values="value"
    )
    assert chosen["difference"].to_numpy() == pytest.approx(
        (bound["posterior_kl"] - bound["epsilon_mse"]).to_numpy(), rel=1e-12
    )
    quality = pd.read_csv(run / "figures" / "sample-quality.csv")
    assert sorted(quality["value"]) == pytest.approx(
        sorted(rows[rows["metric"].isin(["frechet", "sliced_w2", "precision"])]["value"])
    )


def test_drift_is_the_distance_of_two_cells(run):
    drift = pd.read_csv(run / "figures" / "weights-drift.csv")
    first, second = (
        dict(
            np.load(run / "cells" / f"digits-linear-epsilon-beta_tilde-epsilon_mse-{backend}-0" / "weights_sketch.npz")
        )
        for backend in ("torch", "keras")
    )
    norms = [np.linalg.norm(one["sketches"], axis=1) for one in (first, second)]
    apart = np.linalg.norm(first["sketches"] - second["sketches"], axis=1) / np.sqrt(norms[0] * norms[1])
    shown = drift[(drift["between"] == "frameworks") & (drift["what"] == "epsilon_mse") & (drift["seed"] == 0)]
    assert shown["distance"].to_numpy() == pytest.approx(apart, rel=1e-12)
    assert shown["step"].tolist() == first["steps"].tolist()
    assert set(drift["between"]) == {"frameworks", "recipes"}


def test_samples_in_the_csv_are_those_of_the_cell(run):
    table = pd.read_csv(run / "figures" / "samples.csv")
    with np.load(run / "cells" / "digits-linear-epsilon-beta_tilde-epsilon_mse-torch-0" / "samples.npz") as stored:
        expected = stored["ancestral-100"][:10].reshape(10, -1)
    chosen = table[(table["cell"] == "epsilon MSE, PyTorch") & (table["sampler"] == "ancestral-100")]
    assert chosen.filter(like="x_").to_numpy() == pytest.approx(expected)


def draw_nothing(monkeypatch) -> None:
    monkeypatch.setattr("studies.reporting.page.write_figures", lambda plots, folder: None)
    monkeypatch.setattr("studies.reporting.page.images", lambda plot: [])


@pytest.mark.parametrize("make", [write_report, closing_table, make_report])
def test_a_metric_is_ranked_once_for_all_that_asks(tmp_path, monkeypatch, make):
    """Verdict, tables and figures, on the page and in the terminal, ask one view, which ranks by each metric once."""
    draw_nothing(monkeypatch)
    ranked = Counter()

    def counted(about, values, contrast):
        ranked[about.name] += 1
        return ranking(about, values, contrast)

    folder = make_run(tmp_path / "run", samplers=["ancestral-100"], seeds=2, samples=False)
    monkeypatch.setattr("studies.reporting.view.ranking", counted)
    make(folder)
    assert ranked == {"bound": 1, "frechet": 1, "sliced_w2": 1, "precision": 1, "c2st_p": 1}


def test_the_report_and_what_is_printed_are_those_of_each_alone(tmp_path, monkeypatch):
    """`make_report` gives the table of `closing_table`, and writes the page of `write_report`."""
    draw_nothing(monkeypatch)
    folder = make_run(tmp_path / "run", backends=["torch"], seeds=2, samples=False, samplers=[])
    alone, page = closing_table(folder), write_report(folder).read_bytes()
    assert make_report(folder) == (alone, folder / "report.html")
    assert (folder / "report.html").read_bytes() == page


def test_the_same_folder_gives_the_same_bytes(run, tmp_path):
    """Nothing in a figure depends on the clock or on chance."""
    plot = next(plot for plot in figures_of(views_of(read_run(run))) if plot.name == "losses")
    save(plot, tmp_path)
    for kind in ("svg", "pdf", "csv"):
        assert (tmp_path / f"losses.{kind}").read_bytes() == (run / "figures" / f"losses.{kind}").read_bytes()


def test_the_folder_alone_is_enough(run, tmp_path):
    """Copied elsewhere, the run makes the same page but for its own name."""
    moved = tmp_path / "run"
    shutil.copytree(run, moved, ignore=shutil.ignore_patterns("figures", "report.html"))
    again = Page(write_report(moved).read_text())
    first = Page((run / "report.html").read_text())
    assert [image["src"] for image in again.all("img")] == [image["src"] for image in first.all("img")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"backends": ["torch"]}, "effect is not known"),
        ({"seeds": 1}, "one seed gives no interval"),
        ({"objectives": ["epsilon_mse"]}, "MSE (L_simple) reaches a test bound of 3."),
        (
            {"objectives": ["epsilon_mse"], "backends": ["torch"], "seeds": 1},
            "MSE (L_simple) reaches a test bound of 3.",
        ),
        ({"objectives": ["epsilon_mse"], "schedules": ["linear", "cosine"], "backends": ["torch"]}, "than the cosine"),
        (
            {"predictions": ["epsilon", "x_0"], "backends": ["torch"], "seeds": 2},
            "hold jointly at 95 % over 6 comparisons",
        ),
        ({"dataset": "swiss_roll", "backends": ["torch"]}, "On swiss roll"),
        ({"dataset": "series", "backends": ["torch"]}, "On series"),
        ({"dataset": "colour", "backends": ["torch"]}, "On colour"),
        ({"samples": False, "samplers": []}, "lower test bound"),
        ({"samplers": ["ddim-10", "ddim-20", "ddim-50"], "backends": ["torch"]}, "DDIM, 10 steps"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else None,
)
def test_other_studies(tmp_path, options, expected):
    """Every shape of study is put in words and drawn, whichever factors vary."""
    folder = make_run(tmp_path / "run", **options)
    told = closing_table(folder)
    assert expected in told.replace("\N{NO-BREAK SPACE}", " ")
    assert "nan" not in told
    assert max(len(line) for line in told.split("\n\n")[1].splitlines()) <= 140
    plots = figures_of(views_of(read_run(folder)))
    assert {"losses", "bound-by-t", "cost"} <= {plot.name for plot in plots}
    if len(options.get("samplers", [])) >= 3:
        assert "quality-by-steps" in {plot.name for plot in plots}
    for plot in plots:
        for image in images(plot):
            assert ElementTree.fromstring(base64.b64decode(image.light.partition(",")[2])).tag.endswith("svg")
            assert image.light != image.dark
            assert "nan" not in image.alt


def test_varying_factors_are_found_in_the_data(tmp_path):
    run = read_run(
        make_run(
            tmp_path / "run", schedules=["linear", "cosine"], predictions=["epsilon", "x_0"], seeds=1, samples=False
        )
    )
    assert recipe_factors(run.rows) == ["schedule", "prediction", "objective"]
    assert "cosine · x_0 · posterior_kl" in set(map(str, run.rows["recipe"]))


@pytest.mark.parametrize(("factor", "value"), LATER_FACTORS.items())
def test_seeds_added_to_an_older_run_are_of_its_recipes(tmp_path, factor, value):
    """Rows without a value of a later factor are of the value that there was before, with and without others."""
    folder = make_run(tmp_path / "run", backends=["torch"], samples=False, samplers=[])
    rows = pd.read_csv(folder / "results.csv").drop(columns=factor, errors="ignore")
    rows.loc[rows["seed"] == 2, factor] = value
    rows.to_csv(folder / "results.csv", index=False)
    assert recipe_factors(read_run(folder).rows) == ["objective"]


def test_a_metric_in_two_units_counts_once(tmp_path):
    run = read_run(make_run(tmp_path / "run", samples=False))
    assert set(run.rows[run.rows["metric"] == "train_posterior_kl"]["unit"]) == {"bits/dim"}


def test_a_sequential_study_reports_two_stage_intervals(tmp_path):
    """Spread and t from the first 3 of 6 seeds, the mean from all, in every difference; and the page says so."""
    folder = make_run(tmp_path / "run", seeds=6, samples=False)
    (folder / "sequential.json").write_text('{"first_stage": 3, "half_width": 0.02}')
    effects = pd.read_csv(write_report(folder).parent / "figures" / "effects.csv")
    for _, one in effects.groupby(["metric", "factor", "within"]):
        expected = sequential_interval(one.sort_values("seed")["difference"].to_numpy(), first=3)
        assert one["low"].to_numpy() == pytest.approx(expected.low)
        assert one["high"].to_numpy() == pytest.approx(expected.high)
    page = Page((folder / "report.html").read_text())
    assert "The number of seeds was set by the first 3" in page.text
    assert "95 % two-stage interval, 6 paired seeds" in page.text
    assert "two-stage 95 % interval" in page.text
    told = pd.read_csv(folder / "figures" / "bound-by-t.csv")
    last = told[told["panel"] == "running difference"].sort_values("t").iloc[-1]
    assert last["high"] - last["low"] != pytest.approx(0)


def test_runs_compared(tmp_path):
    first = make_run(tmp_path / "first", backends=["torch"], samples=False)
    second = make_run(
        tmp_path / "second", backends=["torch"], samples=False, bounds={"epsilon_mse": 3.3, "posterior_kl": 3.2}
    )
    settings = (second / "settings.json").read_text().replace('"learning_rate": 0.002', '"learning_rate": 0.001')
    (second / "settings.json").write_text(settings)
    page = Page(write_comparison([first, second], tmp_path / "both").read_text())
    assert "the first · posterior KL (the variational bound) has the lowest test bound" in page.text
    assert "learning_rate: 0.002 / 0.001" in page.text
    assert not (first / "report.html").exists()
    with pytest.raises(ValueError, match="different names"):
        write_comparison([first, first], tmp_path / "twice")


def test_command_line(tmp_path):
    """One line and status 2 for what is not a run; the page's path for what is."""
    script = Path(__file__).parents[3] / "studies" / "report.py"
    found = subprocess.run([sys.executable, script, tmp_path / "nothing"], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "expected a run's folder" in found.stderr
    folder = make_run(
        tmp_path / "run",
        objectives=["epsilon_mse", "posterior_kl"],
        backends=["torch"],
        seeds=2,
        samples=False,
        samplers=[],
    )
    found = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=True)
    assert f"report: {folder / 'report.html'}" in found.stdout
    assert "posterior KL \N{MINUS SIGN} epsilon MSE" in found.stdout


def test_a_broken_settings_file_is_one_clear_line(tmp_path):
    folder = make_run(tmp_path / "run", seeds=1, samples=False)
    (folder / "settings.json").write_text('{"study": ')
    with pytest.raises(ValueError, match="was it written to the end"):
        read_run(folder)


def test_text_from_a_run_cannot_become_markup(tmp_path):
    folder = make_run(
        tmp_path / "run",
        backends=["torch"],
        seeds=2,
        samples=False,
        samplers=[],
        failed=["digits-linear-epsilon-beta_tilde-epsilon_mse-torch-1"],
    )
    cell = folder / "cells" / "digits-linear-epsilon-beta_tilde-epsilon_mse-torch-1"
    (cell / "failed.txt").write_text("<script>alert(1)</script>\n")
    text = write_report(folder).read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_recipes_that_differ_in_one_factor_are_subtracted_too(tmp_path):
    """With two factors: each level of one less its first level, within every level of the other."""
    folder = make_run(
        tmp_path / "run", schedules=["linear", "cosine"], predictions=["epsilon", "x_0"], backends=["torch"],
        seeds=3, samples=False,
    )  # fmt: skip
    (view,) = views_of(read_run(folder))
    table = values(view.rows, "bound")
    recipes = levels_in(table, "recipe")
    pairs = one_factor_apart(recipes)
    assert all(second != recipes[0] for _, second in pairs)
    assert len(pairs) == len(set(pairs)) == 12 - 3  # the edges of a cube, without the first recipe's
    name = "cosine \N{MINUS SIGN} linear with x₀ · posterior KL"
    assert name in {row["name"] for row in dataset_tables(view)["differences"]}
    factors = ("schedule", "prediction", "objective")
    first, second = (Recipe(factors, (schedule, "x_0", "posterior_kl")) for schedule in ("cosine", "linear"))
    assert (first, second) in pairs
    assert difference_name(first, second) == name
