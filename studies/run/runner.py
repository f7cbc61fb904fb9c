"""Runs the cells of a study side by side, wherever an executor puts them, and watches them.

Finished cells are not run again; a cell that fails is noted and the rest go on.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from core.variances import as_variance
from studies.datasets import Dataset
from studies.plan.command import to_json
from studies.plan.grouping import Group, groups_of
from studies.plan.machine import default_jobs, uses_gpu
from studies.plan.settings import StudySettings
from studies.run.environment import record_environment
from studies.run.events import EventLog, check_tensorboard
from studies.run.executor import Executor, LocalProcesses, RunningGroup
from studies.run.process import ENDED, News
from studies.run.watch import Watch, Watcher
from studies.store import files
from studies.store.cells import Cell
from studies.store.data import check_data, record_data
from studies.store.folder import RunFolder

CELL = "studies.cell"
"""The module that trains and measures a group of cells."""


@dataclass(frozen=True)
class Outcome:
    """What became of the cells, by id."""

    finished: list[str]
    failed: dict[str, str]


def run_study(
    study: str,
    settings: StudySettings,
    cells: Sequence[Cell],
    argv: Sequence[str],
    dataset: Dataset,
    executor: Executor | None = None,
) -> Outcome:
    """Runs what is not finished yet, and leaves results.csv up to date; settings and cells have been checked.

    Results hold what all cells of the run have measured, finished or not: of a command that asks for fewer seeds than
    an earlier one, those too.

    `study` and `argv` are the script's name and arguments, recorded so that the report can say how to repeat
    it; `dataset` is the settings' own. `executor`: where the cells run; None: in processes on this machine.
    """
    run = settings.out
    if settings.tensorboard:
        check_tensorboard()
    for variance in {cell.variance for cell in cells}:
        settings.network(dataset.shape, as_variance(variance).is_learned)  # a ValueError now rather than in every cell
    check_data(run, settings.dataset, dataset)
    files.open_run(run, to_json(settings), study)
    record_environment(run, study, argv)
    record_data(run, settings.dataset, dataset)
    todo = [cell for cell in cells if not files.is_finished(run, cell.id)]
    jobs = settings.jobs or default_jobs(settings.device, settings.threads)
    with ExitStack() as stack:
        watchers: list[Watcher] = [stack.enter_context(Watch(cells, todo))]
        if settings.tensorboard:
            watchers.append(stack.enter_context(EventLog(run, cells, settings.recipe())))
        groups = groups_of(todo, settings, dataset.shape, jobs, uses_gpu(settings.device))
        run_groups(executor or LocalProcesses(CELL, settings.threads), run, groups, jobs, *watchers)
    files.gather_results(run, [cell.id for cell in (*cells, *files.begun_besides(run, cells))])
    return outcome_of(run, cells)


def outcome_of(run: Path, cells: Sequence[Cell]) -> Outcome:
    """Which of the cells have finished, and why the others have not."""
    failed = {cell.id: files.failure(run, cell.id) for cell in cells if not files.is_finished(run, cell.id)}
    return Outcome(
        finished=[cell.id for cell in cells if files.is_finished(run, cell.id)],
        failed={cell_id: reason or "ended without a word" for cell_id, reason in failed.items()},
    )


def run_groups(executor: Executor, run: Path, todo: Sequence[Group], jobs: int, *watchers: Watcher) -> None:
    """Has the executor run the groups, `jobs` of them at a time; the watchers are told of every cell."""
    waiting: queue.SimpleQueue[Group] = queue.SimpleQueue()
    for group in todo:
        waiting.put(group)
    running: set[RunningGroup] = set()
    cancelled = threading.Event()

    def work() -> None:
        while True:
            try:
                group = waiting.get_nowait()
            except queue.Empty:
                return
            account = _Account(run, group, watchers)
            started = executor.start(run, group)
            running.add(started)
            if cancelled.is_set():  # it was starting while the others were cancelled
                started.cancel()
            for news in started.progress():
                account.enter(news)
            how_it_ended = started.end()
            running.discard(started)
            account.close(how_it_ended)

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
        cancelled.set()
        while not waiting.empty():
            waiting.get_nowait()
        for started in list(running):
            started.cancel()
        raise


class _Account:
    """Which cells of a group still run, begun with all of them; it tells the watchers, and notes failures."""

    def __init__(self, run: Path, group: Group, watchers: Sequence[Watcher]) -> None:
        self._run, self._watchers = run, watchers
        self._open = {cell.id: cell for cell in group}
        for cell in group:
            folder = RunFolder(run).cell(cell.id)
            files.write_record(folder, cell)
            folder.failure.unlink(missing_ok=True)
            for watcher in watchers:
                watcher.started(cell)

    def enter(self, news: News) -> None:
        """Passes on what a cell reports."""
        cell = self._open[news.pop("cell")]
        if news["stage"] == ENDED:
            self._end(cell)
            return
        for watcher in self._watchers:
            watcher.progress(cell, news)

    def close(self, how_it_ended: str) -> None:
        """The group has ended: so have its cells, and those that neither finished nor said why have failed."""
        for cell in list(self._open.values()):
            if not files.is_finished(self._run, cell.id) and files.failure(self._run, cell.id) is None:
                files.write_text(RunFolder(self._run).cell(cell.id).failure, f"{how_it_ended}\n")
            self._end(cell)

    def _end(self, cell: Cell) -> None:
        del self._open[cell.id]
        for watcher in self._watchers:
            watcher.ended(cell, files.failure(self._run, cell.id))
