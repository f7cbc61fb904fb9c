"""report.py on the folder of every study: its report is its own, and a folder that names no study stays as it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from studies import report
from studies.run.watch import DRAWING
from tests.studies.synthetic_measurements import make_estimator_run, make_throughput_run
from tests.studies.synthetic_run import make_run, make_sampler_run

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted(
    path.stem
    for path in (ROOT / "studies").glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8") and path.stem != "report"
)
MADE_BY = {
    "compare_objectives": "studies.reporting.page",
    "compare_parameterizations": "studies.reporting.page",
    "compare_schedules": "studies.reporting.page",
    "sohl_dickstein_2015": "studies.reporting.page",
    "compare_samplers": "studies.samplers.report",
    "compare_estimators": "studies.estimators.report",
    "compare_throughput": "studies.throughput.report",
}
OWN = {
    "compare_samplers": (make_sampler_run, "The guess of x", "Samplers ·"),
    "compare_estimators": (make_estimator_run, "The bound to the error bar of one full", "Estimators of the bound ·"),
    "compare_throughput": (make_throughput_run, "A training step on digits", "Throughput ·"),
}  # fmt: skip
"""What makes a study's folder, and words of its page that no other page has."""


def with_settings(folder: Path, settings: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder


def refused(capsys: pytest.CaptureFixture[str], *words: Path | str) -> str:
    """The one line of a command that is refused."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        report.main([str(word) for word in words])
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1), said
    return said.removeprefix("error: ").rstrip()


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_script_has_a_report():
    assert STUDIES == sorted(report.REPORTS) == sorted(MADE_BY)


@pytest.mark.parametrize("study", STUDIES)
def test_a_studys_report_is_its_own(study, tmp_path, monkeypatch, capsys):
    """By the name that its settings record."""
    for module in set(MADE_BY.values()):
        stub = ModuleType(module)
        stub.make_report = lambda folder, module=module: (module, folder / "report.html")  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module, stub)
    folder = with_settings(tmp_path / "run", {"study": study})
    assert report.main([str(folder)]) == 0
    assert capsys.readouterr().out == f"{DRAWING}\n{MADE_BY[study]}\nreport: {folder / 'report.html'}\n"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("study", OWN)
def test_the_report_of_a_study_of_a_run(study, named, tmp_path, monkeypatch, capsys):
    """As the study itself makes it; of a folder from before names were recorded too, told by a setting of its own."""
    for module in set(MADE_BY.values()):
        monkeypatch.setattr(f"{module}.write_figures", lambda plots, folder: None)
        monkeypatch.setattr(f"{module}.as_figure", lambda plot: {**vars(plot), "legend": [], "images": []})
    make, words, kicker = OWN[study]
    folder = make(tmp_path / "out")
    if not named:
        settings = json.loads((folder / "settings.json").read_text())
        assert settings.pop("study") == study
        with_settings(folder, settings)
    assert report.main([str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert words in page
    assert kicker in page
    assert f"python studies/report.py {folder}" in page
    first, answer, *_ = capsys.readouterr().out.splitlines()
    assert first == DRAWING
    assert answer in page.replace("&#39;", "'").replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "settings.json does not say which study it is of; give the folder a study wrote"),
        ({"seeds": 3}, "settings.json does not say which study it is of; give the folder a study wrote"),
        ({"study": 3}, "settings.json does not say which study it is of; give the folder a study wrote"),
        ({"study": "compare_prices"}, "is of an unknown study 'compare_prices'; known: compare_objectives, "),
        ([], "expected a JSON object, got list"),
        ({"study": "compare_objectives"}, "has no results yet; run its study's command to the end first"),
        ({"study": "compare_samplers"}, "has no results yet; run its study's command to the end first"),
        ({"study": "compare_estimators"}, "has no results yet; run its study's command to the end first"),
        ({"study": "compare_throughput"}, "has no race yet; run its study's command to the end first"),
        ({"study": "compare_throughput", "colour": "red"}, "unknown entries colour; it was written by another version"),
    ],
)
def test_a_folder_that_has_no_report(settings, message, tmp_path, capsys):
    folder = with_settings(tmp_path / "run", settings)
    (folder / "report.html").write_text("what was there")
    before = everything(tmp_path)
    assert message in refused(capsys, folder)
    assert everything(tmp_path) == before


def test_settings_cut_short(tmp_path, capsys):
    folder = with_settings(tmp_path / "run", {})
    (folder / "settings.json").write_text('{"study": ')
    assert refused(capsys, folder).endswith(
        "settings.json: expected JSON, got Expecting value: line 1 column 11 (char 10); was it written to the end?"
    )


def test_what_is_compared_are_runs(tmp_path, capsys):
    """Not measurements of them; and the comparison lies in no study's folder."""
    first, second = (make_run(tmp_path / name, seeds=1, samples=False) for name in ("first", "second"))
    samplers = make_sampler_run(tmp_path / "samplers", steps=(20, 50), seeds=1)
    before = everything(tmp_path)
    assert refused(capsys, first, samplers, "--out", tmp_path / "both") == (
        f"runs of trained cells are compared, and {samplers} is of compare_samplers; make its report alone"
    )
    assert refused(capsys, first, second, "--out", second) == (
        f"--out is a folder of the comparison's own, got a study's folder {second}; give another"
    )
    file = second / "results.csv"
    assert refused(capsys, first, second, "--out", file) == f"--out is a folder, got the file {file}; give another"
    assert everything(tmp_path) == before


@pytest.mark.parametrize("study", ["compare_samplers", "compare_estimators"])
def test_a_study_recorded_as_another(study, tmp_path, capsys):
    """Rows of trained cells under the name of another study are no traceback."""
    folder = make_run(tmp_path / "run", seeds=1, samples=False, samplers=[])
    settings = {"study": study}
    with_settings(folder, settings)
    assert str(folder) in refused(capsys, folder)
