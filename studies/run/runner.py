"""Runs the cells of a study side by side, wherever an executor puts them, and watches them.

Finished cells are not run again; a cell that fails is noted and the rest go on.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from backends.whole_files import clear_abandoned
from core.variances import as_variance
from studies.datasets import Dataset
from studies.plan.command import to_json
from studies.plan.grouping import Group, groups_of
from studies.plan.machine import default_jobs, uses_gpu
from studies.plan.settings import StudySettings
from studies.run.environment import record_environment
from studies.run.events import EventLog, check_tensorboard
from studies.run.executor import Executor, LocalProcesses, RunningGroup
from studies.run.process import ENDED, News, reason_of
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
    files.check_settings(run, to_json(settings), study)  # first: another --scale gives other numbers too
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
        unwritten = run_groups(executor or LocalProcesses(CELL, settings.threads), run, groups, jobs, *watchers)
    files.gather_results(run, [cell.id for cell in (*cells, *files.begun_besides(run, cells))])
    return outcome_of(run, cells, unwritten)


def outcome_of(run: Path, cells: Sequence[Cell], unwritten: Mapping[str, str] | None = None) -> Outcome:
    """Which of the cells have finished, and why the others have not: as their folders say, or `unwritten` by id."""
    reasons = dict(unwritten or {})
    failed = {cell.id: files.failure(run, cell.id) for cell in cells if not files.is_finished(run, cell.id)}
    return Outcome(
        finished=[cell.id for cell in cells if files.is_finished(run, cell.id)],
        failed={id_: reason or reasons.get(id_, "ended without a word") for id_, reason in failed.items()},
    )


def run_groups(executor: Executor, run: Path, todo: Sequence[Group], jobs: int, *watchers: Watcher) -> dict[str, str]:
    """Has the executor run the groups, `jobs` of them at a time; the watchers are told of every cell.

    A group that cannot be started or followed, on a disk that takes no more, say, fails alone. Returns why by cell id,
    since its cells' folders may not hold it.
    """
    waiting: queue.SimpleQueue[Group] = queue.SimpleQueue()
    for group in todo:
        waiting.put(group)
    audience = _Audience(watchers)
    running: set[RunningGroup] = set()
    cancelled = threading.Event()
    unwritten: dict[str, str] = {}

    def work() -> None:
        while True:
            try:
                group = waiting.get_nowait()
            except queue.Empty:
                return
            account = _Account(run, group, audience)
            try:
                account.open()
                account.close(follow(executor.start(run, group), account))
            except Exception as error:
                unwritten.update(account.abandon(reason_of(error)))

    def follow(started: RunningGroup, account: _Account) -> str:
        running.add(started)
        try:
            if cancelled.is_set():  # it was starting while the others were cancelled
                started.cancel()
            for news in started.progress():
                account.enter(news)
            return started.end()
        except BaseException:
            started.cancel()
            raise
        finally:
            running.discard(started)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(todo)))]
    try:
        for thread in workers:
            thread.start()
        while any(thread.is_alive() for thread in workers):
            audience.refresh()
            for thread in workers:
                thread.join(timeout=0.2)
    except KeyboardInterrupt:
        cancelled.set()
        while not waiting.empty():
            waiting.get_nowait()
        for started in list(running):
            started.cancel()
        raise
    return unwritten


class _Account:
    """Which cells of a group still run, begun with all of them; it tells the watchers, and notes failures."""

    def __init__(self, run: Path, group: Group, audience: _Audience) -> None:
        self._run, self._audience = run, audience
        self._open = {cell.id: cell for cell in group}

    def open(self) -> None:
        """The cells begin: their folders say which they are, and no longer why they failed before."""
        for cell in self._open.values():
            self._audience.started(cell)
        for cell in self._open.values():
            folder = RunFolder(self._run).cell(cell.id)
            clear_abandoned(folder.path)
            files.write_record(folder, cell)
            folder.failure.unlink(missing_ok=True)

    def enter(self, news: News) -> None:
        """Passes on what a cell reports."""
        cell = self._open[news.pop("cell")]
        if news["stage"] == ENDED:
            self._end(cell)
        else:
            self._audience.progress(cell, news)

    def close(self, how_it_ended: str) -> None:
        """The group has ended: so have its cells, and those that neither finished nor said why have failed."""
        for cell in list(self._open.values()):
            if not files.is_finished(self._run, cell.id) and files.failure(self._run, cell.id) is None:
                files.write_text(RunFolder(self._run).cell(cell.id).failure, f"{how_it_ended}\n")
            self._end(cell)

    def abandon(self, reason: str) -> dict[str, str]:
        """The group can be followed no more: its open cells have ended, for this reason, which is returned by id."""
        unfinished = [cell for cell in self._open.values() if not files.is_finished(self._run, cell.id)]
        for cell in list(self._open.values()):
            self._end(cell, reason if cell in unfinished else None)
        return {cell.id: reason for cell in unfinished}

    def _end(self, cell: Cell, reason: str | None = None) -> None:
        del self._open[cell.id]
        self._audience.ended(cell, reason or files.failure(self._run, cell.id))


class _Audience:
    """The watchers as one: what goes wrong in one of them is said once, and ends it alone."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = list(watchers)

    def started(self, cell: Cell) -> None:
        self._tell(lambda watcher: watcher.started(cell))

    def progress(self, cell: Cell, news: News) -> None:
        self._tell(lambda watcher: watcher.progress(cell, news))

    def ended(self, cell: Cell, failure: str | None) -> None:
        self._tell(lambda watcher: watcher.ended(cell, failure))

    def refresh(self) -> None:
        self._tell(lambda watcher: watcher.refresh())

    def _tell(self, of_it: Callable[[Watcher], None]) -> None:
        for watcher in list(self._watchers):
            try:
                of_it(watcher)
            except Exception as error:
                with suppress(ValueError):  # another thread's news has met the same
                    self._watchers.remove(watcher)
                    print(f"{type(watcher).__name__} is told no more: {reason_of(error)}", file=sys.stderr)
