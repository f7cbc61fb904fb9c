"""Where groups of cells run: a small protocol that any executor keeps, and the first one, processes on this machine.

`runner` decides what runs when and keeps account of it; an executor only starts a group, passes on what the group says,
and says how it ended. Whatever runs the cells leaves their results in the run's folder (`process.GroupBody`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from studies.plan.grouping import Group
from studies.plan.machine import cell_environment
from studies.run.process import TIED_TO_STDIN, News
from studies.store.folder import RunFolder


class RunningGroup(Protocol):
    """A group of cells that an executor has started."""

    def progress(self) -> Iterator[News]:
        """What the cells report, as it comes; ends when the group has ended. Called once."""

    def end(self) -> str:
        """Waits for the end, and says in one line how the group ended: why a cell failed that did not say so itself."""

    def cancel(self) -> None:
        """Ends the group early, from any thread; harmless after its end."""


class Executor(Protocol):
    """Runs groups of cells; used from several threads, each of which follows one group at a time."""

    def start(self, run: Path, group: Group) -> RunningGroup:
        """Starts the group, whose cells' folders in `run` say which cells they are."""


class LocalProcesses:
    """One process a group on this machine, `python -m MODULE RUN CELL_ID...`, on `threads` threads.

    A process a group, because TensorFlow and JAX take a whole GPU where they can, and a crash in one must not end the
    others. Whatever it prints beside its reports is in log.txt, in the folder of its first cell. Its standard input is
    a pipe from this process, with which it ends: nothing trains on when this one has been killed.
    """

    def __init__(self, module: str, threads: int) -> None:
        self._module, self._threads = module, threads

    def start(self, run: Path, group: Group) -> RunningGroup:
        command = [sys.executable, "-m", self._module, str(run), *(cell.id for cell in group)]
        return _LocalProcess(command, RunFolder(run).cell(group[0].id).log, self._threads)


class _LocalProcess:
    def __init__(self, command: list[str], log_path: Path, threads: int) -> None:
        self._log_path = log_path
        self._log = open(log_path, "w")  # noqa: SIM115  (closed at the end)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**cell_environment(threads), TIED_TO_STDIN: "1"},
        )

    def progress(self) -> Iterator[News]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            news = _report_in(line)
            if news is not None:
                yield news
                continue
            with suppress(OSError):  # a disk that is full
                self._log.write(line)

    def end(self) -> str:
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        return f"the process ended with status {status}; see {self._log_path}"

    def cancel(self) -> None:
        with suppress(ProcessLookupError):
            self._process.terminate()


def _report_in(line: str) -> News | None:
    """The report that a line is; None for whatever else was printed."""
    try:
        news = json.loads(line)
    except json.JSONDecodeError:
        return None
    return news if isinstance(news, dict) and {"stage", "cell"} <= news.keys() else None
