"""Runs the cells of a study side by side, each in a process of its own, and watches them.

Finished cells are not run again; a cell that fails is noted and the rest go on.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from core.variances import as_variance
from studies.datasets import Dataset
from studies.plan.command import to_json
from studies.plan.grouping import Group, groups_of
from studies.plan.machine import cell_environment, default_jobs, uses_gpu
from studies.plan.settings import StudySettings
from studies.run.environment import record_environment
from studies.run.events import EventLog, check_tensorboard
from studies.run.process import ENDED
from studies.run.watch import Watch, Watcher
from studies.store import files
from studies.store.cells import Cell

REFERENCE_EXAMPLES = 256
TOGETHER = "studies.cell.together"


@dataclass(frozen=True)
class Outcome:
    """What became of the cells, by id."""

    finished: list[str]
    failed: dict[str, str]


def run_study(
    study: str, settings: StudySettings, cells: Sequence[Cell], argv: Sequence[str], dataset: Dataset
) -> Outcome:
    """Runs what is not finished yet, and leaves results.csv up to date; settings and cells have been checked.

    `study` and `argv` are the script's name and arguments, recorded so that the report can say how to repeat
    it; `dataset` is the settings' own.
    """
    run = settings.out
    if settings.tensorboard:
        check_tensorboard()
    for variance in {cell.variance for cell in cells}:
        settings.network(dataset.shape, as_variance(variance).is_learned)  # a ValueError now rather than in every cell
    files.open_run(run, to_json(settings), study)
    record_environment(run, study, argv)
    _record_reference(run, dataset)
    todo = [cell for cell in cells if not files.is_finished(run, cell.id)]
    jobs = settings.jobs or default_jobs(settings.device, settings.threads)
    with ExitStack() as stack:
        watchers: list[Watcher] = [stack.enter_context(Watch(cells, todo))]
        if settings.tensorboard:
            watchers.append(stack.enter_context(EventLog(run, cells, settings.recipe())))
        groups = groups_of(todo, settings, dataset.shape, jobs, uses_gpu(settings.device))
        run_groups("studies.cell.stages", run, groups, jobs, settings.threads, *watchers)
    files.gather_results(run, [cell.id for cell in cells])
    return outcome_of(run, cells)


def outcome_of(run: Path, cells: Sequence[Cell]) -> Outcome:
    """Which of the cells have finished, and why the others have not."""
    failed = {cell.id: files.failure(run, cell.id) for cell in cells if not files.is_finished(run, cell.id)}
    return Outcome(
        finished=[cell.id for cell in cells if files.is_finished(run, cell.id)],
        failed={cell_id: reason or "ended without a word" for cell_id, reason in failed.items()},
    )


def run_cells(module: str, run: Path, todo: Sequence[Cell], jobs: int, threads: int, *watchers: Watcher) -> None:
    """Runs `python -m module RUN CELL_ID` for each cell, `jobs` of them at a time on `threads` threads each."""
    run_groups(module, run, [(cell,) for cell in todo], jobs, threads, *watchers)


def run_groups(module: str, run: Path, todo: Sequence[Group], jobs: int, threads: int, *watchers: Watcher) -> None:
    """As `run_cells`, with `python -m studies.cell.together RUN CELL_ID...` for groups of several cells."""
    waiting: queue.SimpleQueue[Group] = queue.SimpleQueue()
    for group in todo:
        waiting.put(group)
    processes: set[subprocess.Popen[str]] = set()

    def work() -> None:
        while True:
            try:
                group = waiting.get_nowait()
            except queue.Empty:
                return
            _run_one(TOGETHER if len(group) > 1 else module, run, threads, group, watchers, processes)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(todo)))]
    try:
        for thread in workers:
            thread.start()
        while any(thread.is_alive() for thread in workers):
            for watcher in watchers:
                watcher.refresh()
            for thread in workers:
                thread.join(timeout=0.2)
    except KeyboardInterrupt:
        while not waiting.empty():
            waiting.get_nowait()
        for process in list(processes):
            process.terminate()
        raise


def _run_one(
    module: str,
    run: Path,
    threads: int,
    group: Group,
    watchers: Sequence[Watcher],
    processes: set[subprocess.Popen[str]],
) -> None:
    running = {cell.id: cell for cell in group}
    for cell in group:
        folder = files.cell_folder(run, cell.id)
        files.write_json(folder / "cell.json", {"factors": asdict(cell)})
        (folder / files.FAILURE).unlink(missing_ok=True)
        for watcher in watchers:
            watcher.started(cell)
    log_path = files.cell_folder(run, group[0].id) / "log.txt"
    with open(log_path, "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(run), *running],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=cell_environment(threads),
        )
        processes.add(process)
        assert process.stdout is not None
        for line in process.stdout:
            try:
                news = json.loads(line)
            except json.JSONDecodeError:
                log.write(line)
                continue
            cell = running[news.pop("cell", None) or group[0].id]
            if news["stage"] == ENDED:
                _end(run, running.pop(cell.id), watchers)
                continue
            for watcher in watchers:
                watcher.progress(cell, news)
        status = process.wait()
        processes.discard(process)
    for cell in running.values():
        if not files.is_finished(run, cell.id) and files.failure(run, cell.id) is None:
            path = files.cell_folder(run, cell.id) / files.FAILURE
            files.write_text(path, f"the process ended with status {status}; see {log_path}\n")
        _end(run, cell, watchers)


def _end(run: Path, cell: Cell, watchers: Sequence[Watcher]) -> None:
    for watcher in watchers:
        watcher.ended(cell, files.failure(run, cell.id))


def _record_reference(run: Path, dataset: Dataset) -> None:
    """Real examples for the report's pictures."""
    path = run / "reference.npz"
    if not path.is_file():
        parts = {"train": dataset.train, "test": dataset.test}
        files.write_arrays(path, {name: x[:REFERENCE_EXAMPLES].astype(np.float32) for name, x in parts.items()})
