"""How a study's cost grows: time with steps, test examples, sampler steps and cells; memory with T and with steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from backends.networks import UNetSettings
from studies.reporting.numbers import listed, plain
from studies.reporting.plotting import FAINT, INK, MARKERS, PALETTE, Panel, Plot, log_axis
from studies.throughput.contestant import GROWTH, Contestant
from studies.throughput.race import Worker
from studies.throughput.workloads import Workload

WORKLOAD = Workload("growth", UNetSettings((8, 8, 1), (8, 16)), 32, 64)
COUNTS = {"steps": (25, 50, 100, 200), "examples": (100, 200, 400, 800), "sampler steps": (25, 50, 100, 200)}
CELLS, CELL_STEPS = 3, 20
NUM_STEPS = (100, 1000, 4000)
REPEATS = 3
MEGABYTE = 2**20


def measure(device: str, threads: int, logs: Path, say: Callable[[str], None]) -> pd.DataFrame:
    """Rows (quantity, n, seconds, bytes): seconds for n of a quantity, or memory at its most after n."""
    logs.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, int, float, float]] = []
    for num_steps in NUM_STEPS:
        say(f"  growth: T = {num_steps}")
        worker = _worker(num_steps, device, threads, logs)
        try:
            worker.listen()
            worker.ask(block="steps", count=CELL_STEPS)
            rows.append(("T", num_steps, float("nan"), worker.ask(memory=True)["bytes"]))
            if num_steps == 1000:
                rows += _grown(worker)
        finally:
            worker.close()
    begun = time.perf_counter()
    for cell in range(1, CELLS + 1):
        say(f"  growth: cell {cell} of {CELLS}")
        worker = _worker(1000, device, threads, logs)
        try:
            worker.listen()
            worker.ask(block="steps", count=CELL_STEPS)
        finally:
            worker.close()
        rows.append(("cells", cell, time.perf_counter() - begun, float("nan")))
    return pd.DataFrame(rows, columns=["quantity", "n", "seconds", "bytes"])


def _worker(num_steps: int, device: str, threads: int, logs: Path) -> Worker:
    workload = replace(WORKLOAD, num_steps=num_steps)
    return Worker(Contestant(GROWTH), workload, device, threads, logs / f"growth-{num_steps}.txt")


def _grown(worker: Worker) -> list[tuple[str, int, float, float]]:
    """The middle of three times of every count, counts in turn, and memory at its most after the first of each."""
    rows = []
    for block, counts in COUNTS.items():
        worker.ask(block=block, count=counts[0])
        times: dict[int, list[float]] = {count: [] for count in counts}
        memory: dict[int, float] = {}
        for _ in range(REPEATS):
            for count in counts:
                times[count].append(worker.ask(block=block, count=count)["seconds"])
                memory.setdefault(count, worker.ask(memory=True)["bytes"])
        rows += [(block, count, float(np.median(times[count])), memory[count]) for count in counts]
    return rows


def exponents(rows: pd.DataFrame) -> dict[str, float]:
    """The slope of log time against log n by quantity: 1 where time is proportional, below where a start-up shows."""
    timed = rows.dropna(subset=["seconds"])
    return {
        str(quantity): float(np.polyfit(np.log(part["n"]), np.log(part["seconds"]), 1)[0])
        for quantity, part in timed.groupby("quantity", sort=False)
    }


def sentences(rows: pd.DataFrame) -> list[str]:
    grown = ", ".join(f"{quantity} {plain(slope, 2)}" for quantity, slope in exponents(rows).items())
    lines = [f"Time grows as n to the power of: {grown} (1 is proportional; a fixed start makes it less)."]
    memory = []
    for quantity, at in (("T", "T = {:,.0f}"), ("steps", "{:,.0f} steps")):
        grown_rows = rows[rows["quantity"] == quantity].sort_values("n")
        ends = [
            f"{size / MEGABYTE:,.0f} MB with {at.format(n)}"
            for n, size in zip(grown_rows["n"], grown_rows["bytes"], strict=True)
        ]
        memory += [ends[0], ends[-1]]
    return [*lines, f"Memory at its most: {listed(memory)}."]


def figure(rows: pd.DataFrame) -> Plot:
    """A panel of times against what there is more of, and one of memory against T."""
    timed, memory = rows.dropna(subset=["seconds"]), rows[rows["quantity"] == "T"].sort_values("n")
    panels = [
        Panel(
            str(quantity),
            f"Seconds against {quantity}: {_spoken(part['n'], part['seconds'])}.",
            _drawing(part, str(quantity), PALETTE[i % len(PALETTE)]),
        )
        for i, (quantity, part) in enumerate(timed.groupby("quantity", sort=False))
    ]

    def draw_memory(ax: Axes) -> None:
        megabytes = memory["bytes"].to_numpy() / MEGABYTE
        ax.plot(memory["n"], megabytes, color=INK, marker=MARKERS[0], markersize=4.5)
        log_axis(ax, "x", memory["n"].min() / 1.3, memory["n"].max() * 1.3)
        ax.set_ylim(0, 1.25 * megabytes.max())
        ax.set_xlabel("T")
        ax.set_ylabel("memory at its most, MB")

    spoken = _spoken(memory["n"], memory["bytes"] / MEGABYTE)
    panels.append(Panel("memory", f"Megabytes at their most against T: {spoken}.", draw_memory))
    return Plot(
        "growth",
        "How cost grows",
        "Times with their proportional line (grey); memory by the length of the chain.",
        panels,
        rows,
    )


def _spoken(counts: pd.Series, values: pd.Series) -> str:
    """ "1.25 at 25, 2.50 at 50"."""
    return ", ".join(f"{plain(value, 3)} at {n:,}" for n, value in zip(counts, values, strict=True))


def _drawing(part: pd.DataFrame, quantity: str, colour: str) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        n, seconds = part["n"].to_numpy(float), part["seconds"].to_numpy()
        ends = np.array([0, n.max() * 1.1])
        ax.plot(ends, ends * seconds[-1] / n[-1], color=FAINT, linewidth=0.9)
        ax.plot(n, seconds, color=colour, marker=MARKERS[0], markersize=4.5)
        ax.set_xlim(0, ends[1])
        ax.set_ylim(0, seconds.max() * 1.15)
        ax.set_xlabel(quantity)
        ax.set_ylabel("seconds")

    return draw
