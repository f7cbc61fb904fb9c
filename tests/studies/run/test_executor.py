"""Who runs a study's cells may be exchanged: an executor of a test's own, and what the runner makes of any of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backends import installed_backends
from studies import study
from studies.cell.stages import run_recorded
from studies.datasets import load_dataset
from studies.plan.command import to_json
from studies.plan.grid import grid
from studies.plan.grouping import Group
from studies.plan.settings import PRESETS, StudySettings
from studies.run import seeds
from studies.run.executor import LocalProcesses, RunningGroup
from studies.run.process import News
from studies.run.runner import Outcome, outcome_of, run_groups, run_study
from studies.store import files
from studies.store.cells import Cell
from studies.store.folder import RunFolder

CELLS = tuple(Cell("digits", "linear", "epsilon", "beta_tilde", "epsilon_mse", "torch", seed) for seed in range(3))


class InThisProcess:
    """An executor without processes: a group runs where its progress is asked for."""

    def __init__(self) -> None:
        self.groups: list[Group] = []

    def start(self, run: Path, group: Group) -> RunningGroup:
        self.groups.append(group)
        return _Here(run, group)


class _Here:
    def __init__(self, run: Path, group: Group) -> None:
        self.run, self.group = run, group

    def progress(self) -> Iterator[News]:
        reports: list[News] = []

        def report(stage: str, done: int, total: int, loss: float | None = None, rows: Any = (), *, cell: str) -> None:
            reports.append({"stage": stage, "done": done, "total": total, "loss": loss, "rows": rows, "cell": cell})

        run_recorded(self.run, self.group, report)
        yield from reports

    def end(self) -> str:
        return "over"

    def cancel(self) -> None:
        raise AssertionError("nobody interrupts")


def test_a_study_runs_on_an_executor_of_ones_own(tmp_path, monkeypatch, capsys):
    """No process is started; a member whose saved state is no state fails alone, and the rest are gathered."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "points.npz", train=rng.standard_normal((80, 2)), test=rng.standard_normal((40, 2)))
    settings = StudySettings(
        **{
            **PRESETS["smoke"],
            "backends": (installed_backends()[0],),
            "dataset": str(tmp_path / "points.npz"),
            "out": tmp_path / "run",
            "num_steps": 20,
            "train_steps": 4,
            "mlp_width": 8,
            "mlp_depth": 1,
            "full_samples": 0,
            "samples": 20,
            "sample_steps": 4,
            "flow_examples": 0,
            "jobs": 1,
            "together": "on",
            "objectives": ("epsilon_mse",),
            "seeds": 3,
        }
    )
    cells = grid(settings)
    broken = cells[1]
    monkeypatch.setattr(LocalProcesses, "start", None)
    files.open_run(settings.out, to_json(settings), "compare_objectives")
    files.write_text(RunFolder(settings.out).cell(broken.id).state, "not a checkpoint")
    dataset, executor = load_dataset(settings.dataset), InThisProcess()
    outcome = run_study("compare_objectives", settings, cells, [], dataset, executor)
    assert executor.groups == [tuple(cells)]
    assert outcome.finished == [cells[0].id, cells[2].id]
    assert list(outcome.failed) == [broken.id]
    assert "not a safetensors file" in outcome.failed[broken.id]
    results = pd.read_csv(RunFolder(settings.out).results)
    assert set(results[results["metric"] == "bound"]["seed"]) == {0, 2}
    assert "[3/3]" in capsys.readouterr().out


class Scripted:
    """Reports what it is given; then the group has ended."""

    def __init__(self, *reports: News) -> None:
        self.reports, self.cancelled = reports, threading.Event()

    def start(self, run: Path, group: Group) -> RunningGroup:
        return self

    def progress(self) -> Iterator[News]:
        yield from self.reports

    def end(self) -> str:
        return "the machine was taken away"

    def cancel(self) -> None:
        self.cancelled.set()


class Listener:
    """A watcher that remembers what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def started(self, cell: Cell) -> None:
        self.events.append(("started", cell.seed))

    def progress(self, cell: Cell, news: News) -> None:
        self.events.append(("progress", cell.seed, news["stage"], news["done"]))

    def ended(self, cell: Cell, failure: str | None) -> None:
        self.events.append(("ended", cell.seed, failure))

    def refresh(self) -> None:
        """Nothing to bring up to date."""


def test_every_cell_is_accounted_for(tmp_path):
    """One says that it has ended, one has said why it failed, and of one nothing is heard: each is told of once."""
    finished, failed, silent = CELLS
    reports = [
        {"stage": "train", "done": 3, "total": 9, "cell": finished.id},
        {"stage": "bound", "done": 1, "total": 2, "cell": failed.id},
        {"stage": "ended", "done": 1, "total": 1, "cell": finished.id},
    ]
    files.write_text(RunFolder(tmp_path).cell(finished.id).rows, "")
    files.write_text(RunFolder(tmp_path).cell(silent.id).failure, "of an earlier attempt\n")

    class FailsInBetween(Scripted):
        def progress(self) -> Iterator[News]:
            yield from super().progress()
            files.write_text(RunFolder(tmp_path).cell(failed.id).failure, "ValueError: broken\n\nwhere\n")

    listener = Listener()
    run_groups(FailsInBetween(*reports), tmp_path, [CELLS], 4, listener)
    assert listener.events == [
        *(("started", seed) for seed in range(3)),
        ("progress", 0, "train", 3),
        ("progress", 1, "bound", 1),
        ("ended", 0, None),
        ("ended", 1, "ValueError: broken"),
        ("ended", 2, "the machine was taken away"),
    ]
    assert files.failure(tmp_path, silent.id) == "the machine was taken away"


def test_a_group_that_cannot_be_followed_fails_alone(tmp_path):
    """Its folder cannot be written, it does not start, it breaks off: the others run, on the one thread there is."""
    unwritable, not_started, broken, sound = (replace(CELLS[0], seed=seed) for seed in range(4))
    RunFolder(tmp_path).cells.mkdir()
    RunFolder(tmp_path).cell(unwritable.id).path.write_text("a file where a folder should be")
    cancelled = []

    class Unreliable(Scripted):
        def start(self, run: Path, group: Group) -> RunningGroup:
            if group == (not_started,):
                raise OSError(28, "No space left on device")
            self.group = group
            return self

        def progress(self) -> Iterator[News]:
            yield {"stage": "train", "done": 1, "total": 2, "cell": self.group[0].id}
            if self.group == (broken,):
                raise OSError(5, "Input/output error")
            files.write_text(RunFolder(tmp_path).cell(sound.id).rows, "")

        def cancel(self) -> None:
            cancelled.append(self.group)

    listener, groups = Listener(), [(unwritable,), (not_started,), (broken,), (sound,)]
    unwritten = run_groups(Unreliable(), tmp_path, groups, 1, listener)
    assert cancelled == [(broken,)]
    reasons = {cell.seed: unwritten[cell.id] for cell in (unwritable, not_started, broken)}
    assert "FileExistsError" in reasons[0] or "NotADirectoryError" in reasons[0]
    assert "No space left" in reasons[1]
    assert "Input/output error" in reasons[2]
    ends = [event for event in listener.events if event[0] == "ended"]
    assert ends == [*(("ended", seed, reason) for seed, reason in reasons.items()), ("ended", 3, None)]
    outcome = outcome_of(tmp_path, [unwritable, not_started, broken, sound], unwritten)
    assert outcome.finished == [sound.id]
    assert outcome.failed == unwritten


def test_a_watcher_that_fails_is_dropped_and_said_once(tmp_path, capsys):
    class FullDisk(Listener):
        def progress(self, cell: Cell, news: News) -> None:
            raise OSError(28, "No space left on device")

    full, listener = FullDisk(), Listener()
    reports = [{"stage": "train", "done": i, "total": 9, "cell": CELLS[0].id} for i in range(3)]
    assert run_groups(Scripted(*reports), tmp_path, [CELLS[:1]], 1, full, listener) == {}
    assert full.events == [("started", 0)]
    assert [event[3] for event in listener.events if event[0] == "progress"] == [0, 1, 2]
    said = capsys.readouterr().err
    assert said == "FullDisk is told no more: OSError: [Errno 28] No space left on device\n"


PRINTS = """
import os, time
from studies.run.process import run_in_process
def body(run, cells, report):
    print(42)
    print('["no report"]')
    report("train", os.getpid(), 1, cell=cells[0].id)
    time.sleep(600)
if __name__ == "__main__":
    run_in_process(body)
"""


def test_cells_end_with_the_process_that_started_them(tmp_path):
    """Which is killed, and so ends nothing itself; lines that are no reports go to the log."""
    files.write_record(RunFolder(tmp_path / "run").cell(CELLS[0].id), CELLS[0])
    (tmp_path / "prints.py").write_text(PRINTS)
    starts = (
        "import os, signal, sys; from pathlib import Path; from studies.run.executor import LocalProcesses\n"
        "from studies.store.folder import RunFolder\n"
        "run = Path(sys.argv[1]); cell = RunFolder(run).every_cell()[0].read_cell()\n"
        "for news in LocalProcesses('prints', 1).start(run, (cell,)).progress():\n"
        "    print(news['done'], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = os.pathsep.join([str(Path(__file__).parents[3]), str(tmp_path)])
    parent = subprocess.run(
        [sys.executable, "-c", starts, str(tmp_path / "run")],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, timeout=60,
    )  # fmt: skip
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    child = int(parent.stdout)
    for _ in range(100):
        if not runs(child):
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        raise AssertionError("the cell goes on after its parent was killed")


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie, which nobody may be left to wait for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_interruption_cancels_what_runs_and_starts_no_more(tmp_path):
    class Interrupts(Listener):
        def refresh(self) -> None:
            if ("progress", 0, "train", 1) in self.events:
                raise KeyboardInterrupt

    class Endless(Scripted):
        def progress(self) -> Iterator[News]:
            yield from super().progress()
            self.cancelled.wait(timeout=60)

    executor = Endless({"stage": "train", "done": 1, "total": 2, "cell": CELLS[0].id})
    listener = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        run_groups(executor, tmp_path, [(cell,) for cell in CELLS], 1, listener)
    assert executor.cancelled.is_set()
    assert [event for event in listener.events if event[0] == "started"] == [("started", 0)]


def test_a_group_that_starts_while_others_are_cancelled_is_cancelled_too(tmp_path):
    starting, interrupted = threading.Event(), threading.Event()

    class SlowToStart(Scripted):
        def start(self, run: Path, group: Group) -> RunningGroup:
            starting.set()
            assert interrupted.wait(timeout=60)
            return self

        def end(self) -> str:
            assert self.cancelled.wait(timeout=60)
            ended.set()
            return super().end()

    class Interrupts(Listener):
        def refresh(self) -> None:
            if starting.is_set():
                raise KeyboardInterrupt

    executor, ended = SlowToStart(), threading.Event()
    with pytest.raises(KeyboardInterrupt):
        run_groups(executor, tmp_path, [CELLS], 1, Interrupts())
    interrupted.set()
    assert ended.wait(timeout=60)


def test_a_script_hands_its_executor_to_the_first_seeds_and_to_those_added(tmp_path, monkeypatch, capsys):
    settings = StudySettings(
        **{**PRESETS["smoke"], "backends": ("torch",), "out": tmp_path, "seeds_until": 0.1, "seeds": 2}
    )
    executor, handed = InThisProcess(), []

    def run_study(*arguments: Any) -> Outcome:
        handed.append(arguments[-1])
        return Outcome(finished=[], failed={})

    for module in (study, seeds):
        monkeypatch.setattr(module, "run_study", run_study)
    monkeypatch.setattr(seeds, "bound_differences", lambda settings: [0.0, 0.1])
    monkeypatch.setattr(seeds.files, "first_stage", lambda run: 2)
    assert study.run_and_report("compare_objectives", settings, grid, [], executor=executor) == 1
    assert handed == [executor, executor]
