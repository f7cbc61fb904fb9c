"""Who runs a study's cells may be exchanged: an executor of a test's own, and what the runner makes of any of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
from studies.run.runner import Outcome, run_groups, run_study
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
