"""What a person sees while a study runs: a live view of its cells, or plain lines where the output is no terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from studies.store.cells import Cell

LOSSES = {"train_epsilon_mse": "MSE", "train_posterior_kl": "KL"}
STAGE_SHARE = {
    "train": (0.0, 0.83),
    "bound": (0.83, 0.85),
    "floors": (0.85, 0.86),
    "flow": (0.86, 0.9),
    "sample": (0.9, 0.98),
    "score": (0.98, 1.0),
}
"""The share of a cell's time at which each stage begins and ends, roughly."""


class Watcher(Protocol):
    """Who is told of a study's cells, from any thread: `progress` brings what `process.print_progress` wrote."""

    def started(self, cell: Cell) -> None: ...

    def progress(self, cell: Cell, news: dict[str, Any]) -> None: ...

    def ended(self, cell: Cell, failure: str | None) -> None: ...

    def refresh(self) -> None:
        """Called a few times a second."""


class Watch:
    """Shows each running cell with its stage, latest losses, speed and remaining time, and the whole study with them.

    `started`, `progress` and `ended` may be called from any thread. `stages` says at which share of a cell's time each
    of its stages begins and ends.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        todo: Sequence[Cell],
        stages: Mapping[str, tuple[float, float]] = STAGE_SHARE,
        console: Console | None = None,
    ) -> None:
        self.stages = stages
        self.lock = threading.Lock()
        self.console = console or Console()
        self.live = self.console.is_terminal
        self.todo, self.begun = len(todo), time.monotonic()
        self.shares: dict[str, float] = {}
        self.ended_count = 0
        self.tasks: dict[str, TaskID] = {}
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
        )
        self.whole = self.bar.add_task(f"whole study, {len(cells)} cells", total=max(1, self.todo), state="")
        done = len(cells) - self.todo
        if done:
            self.say(f"{done} of {len(cells)} cells are finished already and will not run again")

    def __enter__(self) -> Watch:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.live:
            self.bar.console.print(line, highlight=False)
        else:
            print(line, flush=True)

    def started(self, cell: Cell) -> None:
        with self.lock:
            self.shares[cell.id] = 0.0
            self.tasks[cell.id] = self.bar.add_task(cell.id, total=1.0, state="starting")

    def progress(self, cell: Cell, news: dict[str, Any]) -> None:
        with self.lock:
            first, last = self.stages[news["stage"]]
            share = first + (last - first) * news["done"] / max(1, news["total"])
            self.shares[cell.id] = share
            self.bar.update(self.tasks[cell.id], completed=share, state=_words(news))

    def ended(self, cell: Cell, failure: str | None) -> None:
        with self.lock:
            self.shares[cell.id] = 1.0
            self.ended_count += 1
            self.bar.remove_task(self.tasks.pop(cell.id))
            elapsed = time.monotonic() - self.begun
            left = elapsed / sum(self.shares.values()) * (self.todo - sum(self.shares.values()))
            word = "failed: " + failure if failure else "done"
            times = f"{_minutes(elapsed)} so far, about {_minutes(left)} left"
            self.say(f"[{self.ended_count}/{self.todo}] {cell.id}: {word}; {times}")

    def refresh(self) -> None:
        """Brings the bar of the whole study up to date."""
        with self.lock:
            self.bar.update(
                self.whole, completed=sum(self.shares.values()), state=f"{self.ended_count}/{self.todo} done"
            )


def _words(news: dict[str, Any]) -> str:
    """ "train 500/3500, MSE 0.081, KL 3.31, 28 steps/s": the stage, the latest losses and the speed where known."""
    last = {row["metric"]: float(row["value"]) for row in news.get("rows", ())}
    words = [f"{news['stage']} {news['done']}/{news['total']}"]
    words += [f"{name} {last[metric]:.3g}" for metric, name in LOSSES.items() if metric in last]
    if last.get("step_seconds"):
        words.append(f"{1 / last['step_seconds']:.3g} steps/s")
    return ", ".join(words)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
