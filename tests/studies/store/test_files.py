"""Files are whole or absent, and a run's folder belongs to one study."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from backends.whole_files import clear_abandoned, write_whole
from studies.plan.command import to_json
from studies.plan.settings import StudySettings, from_json
from studies.store import files
from studies.store.cell_rows import CellRows
from studies.store.cells import Cell
from studies.store.folder import RunFolder


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.csv"
    files.write_text(path, "old")

    def broken(file):
        file.write(b"half of the new")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_whole(path, broken)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["rows.csv"]


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_is_after(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace

    def synced(handle):
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"file of {os.fstat(handle).st_size}")
        fsync(handle)

    def replaced(source, to):
        calls.append("replace")
        replace(source, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    files.write_text(tmp_path / "rows.csv", "twelve bytes")
    assert calls == ["file of 12", "replace", "folder"]


def killed_while_writing(path):
    """A process that writes `path` and is killed before it has."""
    script = (
        "import os, sys, signal; from pathlib import Path; from backends.whole_files import write_whole\n"
        "write_whole(Path(sys.argv[1]), lambda file: os.kill(os.getpid(), signal.SIGKILL))"
    )
    status = subprocess.run([sys.executable, "-c", script, str(path)], cwd=Path(__file__).parents[3]).returncode
    assert status == -signal.SIGKILL


def test_a_kill_while_settings_are_first_written_does_not_block_the_folder(tmp_path):
    run = tmp_path / "run"
    killed_while_writing(run / "settings.json")
    (leftover,) = run.iterdir()
    files.open_run(run, to_json(StudySettings()), "compare_objectives")
    assert [path.name for path in run.iterdir()] == ["settings.json"], leftover


def test_what_others_are_writing_stays(tmp_path):
    """A process that runs, one of another machine, and a user's own hidden file; the first block no new run either."""
    host = socket.gethostname()
    for name in (f".settings.json.{host}-{os.getpid()}-abc.part", ".settings.json.elsewhere-1-abc.part"):
        (tmp_path / name).touch()
    before = sorted(tmp_path.iterdir())
    clear_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    files.open_run(tmp_path, to_json(StudySettings()), "compare_objectives")
    other = tmp_path / "other"
    other.mkdir()
    (other / ".thesis.part").touch()
    clear_abandoned(other)
    with pytest.raises(ValueError, match="holds no run"):
        files.open_run(other, to_json(StudySettings()), "compare_objectives")


@pytest.mark.parametrize(("content", "reason"), [(b"", "no reason was recorded"), (b"\xff broken\n", "\ufffd broken")])
def test_a_reason_that_is_none_is_still_a_failure(tmp_path, content, reason):
    folder = RunFolder(tmp_path).cell("c")
    folder.path.mkdir(parents=True)
    folder.failure.write_bytes(content)
    assert files.failure(tmp_path, "c") == reason


def test_settings_survive_the_file():
    settings = StudySettings(objectives=("hybrid",), widths=(8, 16, 32), clip_norm=None)
    assert from_json(to_json(settings)) == settings


def test_settings_of_another_version_are_refused():
    values = {**json.loads(to_json(StudySettings())), "colour": "blue"}
    with pytest.raises(ValueError, match="unknown entries colour"):
        from_json(json.dumps(values))


def test_the_same_settings_continue_a_run(tmp_path):
    run = tmp_path / "run"
    files.open_run(run, to_json(StudySettings()), "compare_objectives")
    files.open_run(run, to_json(StudySettings(jobs=7, seeds=5)), "compare_objectives")
    assert json.loads((run / "settings.json").read_text())["seeds"] == 5


def test_other_settings_are_refused_and_nothing_is_touched(tmp_path):
    run = tmp_path / "run"
    files.open_run(run, to_json(StudySettings()), "compare_objectives")
    before = (run / "settings.json").read_bytes()
    with pytest.raises(ValueError, match=r"holds a run with other settings \(num_steps 1000 there, 50 asked\)"):
        files.open_run(run, to_json(StudySettings(num_steps=50)), "compare_objectives")
    assert (run / "settings.json").read_bytes() == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="holds no run"):
        files.open_run(tmp_path, to_json(StudySettings()), "compare_objectives")
    with pytest.raises(ValueError, match="holds no run"):
        files.open_run(tmp_path / "thesis.tex", to_json(StudySettings()), "compare_objectives")


def test_an_unwritable_folder_is_one_line():
    with pytest.raises(ValueError, match=r"cannot write to /proc/run .*--out"):
        files.open_run(files.Path("/proc/run"), to_json(StudySettings()), "compare_objectives")


def test_rows_have_the_columns(tmp_path):
    files.write_rows(tmp_path / "rows.csv", [{"metric": "bound", "value": 3.1, "unit": "bits/dim"}])
    frame = pd.read_csv(tmp_path / "rows.csv")
    assert tuple(frame.columns) == files.COLUMNS
    with pytest.raises(ValueError, match="got also colour"):
        files.write_rows(tmp_path / "other.csv", [{"colour": "blue"}])
    assert not (tmp_path / "other.csv").exists()


def test_results_join_finished_cells_only(tmp_path):
    for name, value in (("a", 1.0), ("b", 2.0)):
        rows = [{"metric": "bound", "value": value, "unit": "bits/dim", "t": 3, "t_last": 4}]
        files.write_rows(RunFolder(tmp_path).cell(name).rows, rows)
    files.write_text(RunFolder(tmp_path).cell("c").failure, "ValueError: no\n\ntraceback")
    frame = pd.read_csv(files.gather_results(tmp_path, ["a", "b", "c"]))
    assert list(frame["value"]) == [1.0, 2.0]
    assert files.failure(tmp_path, "c") == "ValueError: no"
    assert files.failure(tmp_path, "a") is None
    assert files.gather_results(tmp_path, ["c"]).is_file()


def test_results_hold_what_an_unfinished_cell_has_measured(tmp_path):
    """Its rows in the order of its stages, without its blanks; then the table that it finished with."""
    cell = Cell("digits", "linear", "epsilon", "beta_tilde", "epsilon_mse", "torch", 0)
    folder = RunFolder(tmp_path).cell(cell.id)
    rows = CellRows(folder, cell)
    rows.add("train", [files.row("train_epsilon_mse", 0.1 + 0.2, "per dim", step=3)])
    rows.add("score", [files.blank("recall", 'too few, of "some"', sampler="ddim-5"), files.row("frechet", 2.0, "1")])
    frame = pd.read_csv(files.gather_results(tmp_path, [cell.id]))
    assert tuple(frame.columns) == files.COLUMNS
    written = list(zip(frame["metric"], frame["value"], strict=True))
    assert written == [("train_epsilon_mse", 0.1 + 0.2), ("frechet", 2.0)]
    lacking = [{"metric": "recall", "sampler": "ddim-5", "reason": 'too few, of "some"'}]
    assert files.read_blanks(folder) == lacking
    assert not files.is_finished(tmp_path, cell.id)
    rows.add("more", [files.row("bound", 3.0, "bits/dim")])
    rows.finish({"device": "cpu"})
    assert list(pd.read_csv(folder.rows)["metric"]) == ["train_epsilon_mse", "frechet", "bound"]
    assert list(pd.read_csv(files.gather_results(tmp_path, [cell.id]))["value"]) == [0.1 + 0.2, 2.0, 3.0]
    assert files.read_blanks(folder) == lacking
    assert not folder.partial.exists()
