"""What a person sees while a study runs: a live view of its cells, or plain lines where the output is no terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from studies.store.cells import FACTOR_NAMES, Cell

DRAWING = "drawing the report and its figures"
"""Said before what may take a minute without a word."""
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
BAR_WIDTH = 24
TIMES_WIDTH = len(" 0:00:00 left 0:00:00 ") + 2
"""Of the columns with the time so far and what is left, with the spaces between all columns."""


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
    of its stages begins and ends. A narrow terminal has short bars and leaves out the speed, then the losses.
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
        self.ended_count = self.failed_count = 0
        self.tasks: dict[str, TaskID] = {}
        width = self.console.width
        self.labels = labels_of(todo, most=max(width - 60, width // 4))
        whole = f"whole study, {len(cells)} cells" if width >= 120 else f"{len(cells)} cells"
        bar_width = min(BAR_WIDTH, width // 8)
        name_width = max(map(len, (whole, *self.labels.values())))
        self.state_width = width - name_width - bar_width - TIMES_WIDTH
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=bar_width),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
        )
        self.whole = self.bar.add_task(whole, total=max(1, self.todo), state="")
        done = len(cells) - self.todo
        if done:
            self.say(f"{done} of {len(cells)} cells are finished already and will not run again")

    def __enter__(self) -> Watch:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.lock:
            for task in self.tasks.values():  # of cells that were stopped
                self.bar.remove_task(task)
            self.tasks = {}
        self.refresh()
        self.bar.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.live:
            self.bar.console.print(line, highlight=False, markup=False)
        else:
            print(line, flush=True)

    def started(self, cell: Cell) -> None:
        with self.lock:
            self.shares[cell.id] = 0.0
            self.tasks[cell.id] = self.bar.add_task(self.labels[cell.id], total=1.0, state="starting")

    def progress(self, cell: Cell, news: dict[str, Any]) -> None:
        with self.lock:
            first, last = self.stages[news["stage"]]
            share = first + (last - first) * news["done"] / max(1, news["total"])
            self.shares[cell.id] = share
            if cell.id in self.tasks:
                state = _fitting(_words(news), self.state_width)
                self.bar.update(self.tasks[cell.id], completed=share, state=state)

    def ended(self, cell: Cell, failure: str | None) -> None:
        with self.lock:
            self.shares[cell.id] = 1.0
            self.ended_count += 1
            self.failed_count += failure is not None
            if cell.id in self.tasks:
                self.bar.remove_task(self.tasks.pop(cell.id))
            elapsed = time.monotonic() - self.begun
            left = elapsed / sum(self.shares.values()) * (self.todo - sum(self.shares.values()))
            word = "failed: " + failure if failure else "done"
            times = f"{_minutes(elapsed)} so far, about {_minutes(left)} left"
            fits = not self.live or len(cell.id) + len("[100/100] :") <= self.console.width
            self.say(f"[{self.ended_count}/{self.todo}] {cell.id if fits else self.labels[cell.id]}: {word}; {times}")
        self.refresh()

    def refresh(self) -> None:
        """Brings the bar of the whole study up to date."""
        with self.lock:
            words = [f"{self.ended_count - self.failed_count}/{self.todo} done"]
            words += [f"{self.failed_count} failed"] if self.failed_count else []
            state = _fitting(words, self.state_width)
            self.bar.update(self.whole, completed=sum(self.shares.values()), state=state)


def labels_of(cells: Sequence[Cell], most: int) -> dict[str, str]:
    """What to call each cell, by id: by the levels in which they differ; "cell 7" where these are long."""
    factors = [name for name in FACTOR_NAMES if len({getattr(cell, name) for cell in cells}) > 1]
    labels = {
        cell.id: " ".join(f"seed {cell.seed}" if name == "seed" else str(getattr(cell, name)) for name in factors)
        for cell in cells
    }
    if all(0 < len(label) <= most for label in labels.values()):
        return labels
    return {cell.id: f"cell {place}" for place, cell in enumerate(cells, 1)}


def _fitting(words: Sequence[str], width: int) -> str:
    """As many of the words as there is room for, and the first at any rate."""
    text = words[0]
    for word in words[1:]:
        if len(text) + 2 + len(word) > width:
            break
        text += f", {word}"
    return text


def _words(news: dict[str, Any]) -> list[str]:
    """ "train 500/3500", "MSE 0.081", "KL 3.31", "28 steps/s": the stage, and the losses and speed where known."""
    last = {row["metric"]: float(row["value"]) for row in news.get("rows", ())}
    words = [f"{news['stage']} {news['done']}/{news['total']}"]
    words += [f"{name} {last[metric]:.3g}" for metric, name in LOSSES.items() if metric in last]
    if last.get("step_seconds"):
        words.append(f"{1 / last['step_seconds']:.3g} steps/s")
    return words


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
