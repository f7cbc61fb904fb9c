"""The report of a study of speed: report.md, results.csv and figures in its folder, and its tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from backends import BACKENDS
from studies.plan.command import read_recorded
from studies.reporting.figures import write_figures
from studies.reporting.numbers import plain
from studies.reporting.plotting import FAINT, INK, PALETTE, Panel, Plot
from studies.reporting.terminal import aligned, terminal_width
from studies.statistics import Interval
from studies.store import files
from studies.store.folder import RunFolder
from studies.throughput import account, answers, growth
from studies.throughput.cases import GROWTH_FILE, Case, read_cases
from studies.throughput.contestant import FLOAT32, REFERENCE, Contestant
from studies.throughput.settings import ThroughputSettings
from studies.throughput.table import (
    LOOPS,
    Speed,
    compiled,
    loop_over_network,
    speeds,
    time_over,
    time_over_torch,
    torch_rate_over,
)

CEILING_GOAL, PEER_GOAL, LOOP_GOAL = 0.75, 1.3, 1.05
METHOD = (
    "One process a contestant, driven in turn so that one runs at a time; the order turns by one a round. Medians over"
    " rounds with quartiles; a ratio is the median of the ratios within rounds, its interval a 95 % one between order"
    " statistics.",
    "A training step is everything from drawing data, steps and noise to the moving average of the weights.",
    "Operations are those of convolutions and matrix products as the network defines them, 2 a multiply-add, a backward"
    " pass counted as two forward ones. An implementation that needs fewer is credited with all.",
    "Ceilings: a 3x3 convolution forward and backward in channels-last layout (64 to 64 channels, 8x8, batch 128 on a"
    " CPU; 256 to 256, 32x32, batch 128 on a GPU) and a square matrix product (2048; 8192), timed in the same rounds.",
    "Bound and sampler: seconds for one evaluation of the network within them, over one of the bare network.",
    "Peers run in the environment that their users have, ours in that of a study's cells, where the allocator keeps the"
    " memory of a step for the next.",
    "Start: from starting the process to a network in place. First step: with compilation or tracing.",
    "Where a step goes: self time by PyTorch's profiler over a few steps after the rounds. Its own microseconds an"
    " operator make these steps longer, and are mostly outside operators.",
)
CLOCK_SAID = {
    "wall": "Seconds are wall time.",
    "cpu": "Seconds are processor time of one thread, because others used the machine; start and growth are wall time.",
}
Table = list[list[str]]


def write_report(out: Path) -> Path:
    """Writes results.csv, figures/*.{png,pdf,svg,csv} and report.md from the folder alone."""
    cases = read_cases(out)
    results = pd.DataFrame([speed.row() for case in cases for speed in speeds(case)])
    files.write_text(RunFolder(out).results, results.to_csv(index=False))
    plots = [figure(cases)]
    if (out / GROWTH_FILE).is_file():
        plots.append(growth.figure(pd.read_csv(out / GROWTH_FILE)))
    write_figures(plots, RunFolder(out).figures)
    environment = RunFolder(out).read_environment()
    lines = ["# Speed, and the time to a verdict", ""]
    lines += [f"- {sentence}" for sentence in sentences(out)]
    for title, table in tables(out):
        lines += ["", f"## {title}", "", *_markdown(table)]
    for plot in plots:
        lines += ["", f"## {plot.title}", "", plot.caption, "", f"![{plot.title}](figures/{plot.name}.png)"]
    devices = {known.description.get("device", "") for case in cases for known in case.facts.values()} - {""}
    clock = CLOCK_SAID[read_recorded(out, ThroughputSettings).clock]
    lines += ["", "## Method", "", *(f"- {line}" for line in (*METHOD, clock))]
    lines += ["", "## Where", "", f"- {environment['cpu']}, {environment['cores']} cores; {environment['platform']}"]
    lines += [f"- {device}" for device in sorted(devices)]
    lines += [f"- {name} {version}" for name, version in environment["packages"].items()]
    lines += ["", "## How to reproduce", "", "```sh", environment["command"], "```", ""]
    files.write_text(out / "report.md", "\n".join(lines))
    return out / "report.md"


def closing_tables(out: Path) -> str:
    """All tables and sentences as plain text."""
    lines: list[str] = []
    for title, table in tables(out):
        lines += [title, *aligned(table, terminal_width()), ""]
    return "\n".join(lines + sentences(out))


def tables(out: Path) -> list[tuple[str, Table]]:
    result: list[tuple[str, Table]] = []
    settings, cases = read_recorded(out, ThroughputSettings), read_cases(out)
    for case in cases:
        title = f"{case.workload}, batch {case.batch}"
        result.append((f"Training step: {title}", training_table(case)))
        result.append((f"Evaluation, start and memory: {title}", evaluation_table(case)))
        if (operator_table := account.table(case)) is not None:
            result.append((f"Where a training step goes, ms and share: {title}", operator_table))
    return result if settings.run is None else result + answers.tables(settings.run, cases)


def training_table(case: Case) -> Table:
    rows = [
        ["contestant", "weights", "ms a step", "quartiles", "images/s", "GFLOP/s", "of conv.", "of product",
         "time / torch", "95 %"]
    ]  # fmt: skip
    for speed in speeds(case, "train"):
        ratio = time_over_torch(case, speed.contestant)
        rows.append(
            [
                speed.contestant.label,
                f"{case.facts[speed.contestant].parameters / 1e6:.2f} M",
                *_milliseconds(speed),
                plain(speed.items_per_second, 3),
                plain(speed.gflops, 3),
                _percent(speed.share_convolution),
                _percent(speed.share_product),
                "1" if ratio is None else plain(ratio.estimate, 3),
                "" if ratio is None else _range(ratio),
            ]
        )
    for speed in speeds(case):
        if speed.contestant.is_ceiling:
            ceiling = replace(speed.contestant, name=f"ceiling: {speed.block}")
            rows.append([ceiling.label, "", *_milliseconds(speed), "", plain(speed.gflops, 3), "", "", "", ""])
    return rows


def evaluation_table(case: Case) -> Table:
    rows = [
        ["contestant", "", "network, ms", "bound / network", "sampler / network", "start, s", "first step, s",
         "memory, MB"]
    ]  # fmt: skip
    for speed in speeds(case, "network"):
        facts = case.facts[speed.contestant]
        ratios = [loop_over_network(case, speed.contestant, loop) for loop in LOOPS]
        rows.append(
            [
                speed.contestant.label,
                "",
                plain(1e3 * speed.seconds, 3),
                *("" if ratio is None else f"{plain(ratio.estimate, 3)} ({_range(ratio)})" for ratio in ratios),
                plain(facts.startup_seconds, 2),
                plain(facts.first_seconds["train"], 2),
                f"{facts.memory_bytes / 2**20:,.0f}",
            ]
        )
    return rows


def sentences(out: Path) -> list[str]:
    """Which goals the figures reach, whether compiling pays, how cost grows, and the time to a verdict."""
    settings, cases = read_recorded(out, ThroughputSettings), read_cases(out)
    lines = [f"{case.workload}: {line}" for case in cases for line in case_sentences(case)]
    if settings.run is not None:
        lines += answers.sentences(settings.run, cases)
    if (out / GROWTH_FILE).is_file():
        lines += growth.sentences(pd.read_csv(out / GROWTH_FILE))
    return lines


def case_sentences(case: Case) -> Iterator[str]:
    for dtype in case.dtypes:
        yield from _torch_sentences(case, dtype)
        yield from account.sentences(case, dtype)
    for ours in map(Contestant, BACKENDS):
        for loop in LOOPS:
            if (ratio := loop_over_network(case, ours, loop)) is not None:
                yield f"{ours.label}: an evaluation in the {loop} loop takes {_within(ratio)}"
    for contestant in case.facts:
        if (ratio := time_over(case, contestant, contestant.in_float32())) is not None:
            times = f"{plain(ratio.estimate, 3)} ({_range(ratio)}) times"
            yield f"{contestant.label}: a step takes {times} one in {FLOAT32}"
    for pair in compiled(case):
        steps = pair.steps
        after = f"pays after {steps:,.0f} steps" if math.isfinite(steps) else "does not pay: a step is no faster"
        yield f"compiling {pair.contestant.label} costs {pair.extra_seconds:.0f} s at the start and {after}"


def _torch_sentences(case: Case, dtype: str) -> Iterator[str]:
    """The eager training step in a dtype against the ceiling and against the best peer, which may be compiled."""
    ours = Contestant(REFERENCE, dtype)
    for speed in speeds(case, "train"):
        if speed.contestant == ours and math.isfinite(speed.share_convolution):
            share, outcome = speed.share_convolution, "met" if speed.share_convolution >= CEILING_GOAL else "NOT met"
            yield f"{ours.label} reaches {_percent(share)} of the convolution ceiling ({CEILING_GOAL:.0%} {outcome})"
    peers = [contestant for contestant in case.facts if contestant.is_peer and contestant.dtype == dtype]
    against = {peer: rate for peer in peers if (rate := torch_rate_over(case, peer)) is not None}
    if against:
        best = min(against, key=lambda peer: against[peer].estimate)
        rate, outcome = against[best], "met" if against[best].estimate >= PEER_GOAL else "NOT met"
        yield (
            f"{ours.label} does {plain(rate.estimate, 3)} ({_range(rate)}) times the operations a second of the best "
            f"peer, {best.label} ({PEER_GOAL} {outcome})"
        )


def _within(ratio: Interval) -> str:
    goal = f"{LOOP_GOAL - 1:.0%}"
    outcome = (
        f"within {goal}" if ratio.high <= LOOP_GOAL else f"over {goal}" if ratio.low > LOOP_GOAL else "not resolved"
    )
    return f"{plain(ratio.estimate, 3)} ({_range(ratio)}) times the bare network's time ({outcome})"


def figure(cases: Sequence[Case]) -> Plot:
    """Training steps: operations a second of every contestant, a panel for each case and dtype."""
    panels, data = [], []
    of_panels = [(case, dtype) for case in cases for dtype in case.dtypes]
    for case, dtype in of_panels:
        panel_speeds = [speed for speed in speeds(case, "train") if speed.contestant.dtype == dtype]
        data += panel_speeds
        limits = [speed.gflops for speed in speeds(case, "convolution") if speed.contestant.dtype == dtype]
        ceiling = limits[0] if limits else math.nan
        spoken = ", ".join(f"{speed.contestant.label} {plain(speed.gflops, 3)}" for speed in panel_speeds)
        title = f"{case.workload}, {dtype}"
        panels.append(
            Panel(
                title,
                f"GFLOP/s of a training step: {spoken}.",
                _bars(panel_speeds, ceiling),
                80 + 34 * len(panel_speeds),
            )
        )
    return Plot(
        "training",
        "Operations a second of a training step",
        "GFLOP/s, medians over rounds with quartiles; the line is the convolution ceiling measured in the same rounds.",
        panels,
        pd.DataFrame([speed.row() for speed in data]),
    )


def _bars(panel_speeds: Sequence[Speed], ceiling: float) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        places = np.arange(len(panel_speeds))[::-1]
        rates = np.array([speed.gflops for speed in panel_speeds])
        low = rates - np.array([speed.gflops * speed.seconds / speed.seconds_q3 for speed in panel_speeds])
        high = np.array([speed.gflops * speed.seconds / speed.seconds_q1 for speed in panel_speeds]) - rates
        ax.barh(
            places,
            rates,
            height=0.6,
            color=[FAINT if speed.contestant.is_peer else PALETTE[0] for speed in panel_speeds],
        )
        ax.errorbar(rates, places, xerr=[low, high], fmt="none", ecolor=INK, elinewidth=1.2)
        if math.isfinite(ceiling):
            ax.axvline(ceiling, color=PALETTE[1], linewidth=1.4)
        ax.set_yticks(
            places, [speed.contestant.label.replace("-diffusion-", "-diffusion-\n") for speed in panel_speeds]
        )
        ax.grid(axis="y", visible=False)
        ax.set_xlim(0, np.nanmax([*(rates + high), ceiling]) * 1.05)
        ax.set_xlabel("GFLOP/s")

    return draw


def _milliseconds(speed: Speed) -> tuple[str, str]:
    return plain(1e3 * speed.seconds, 3), f"{plain(1e3 * speed.seconds_q1, 3)} to {plain(1e3 * speed.seconds_q3, 3)}"


def _range(interval: Interval) -> str:
    if not math.isfinite(interval.half_width):
        return "too few rounds"
    return f"{plain(interval.low, 3)} to {plain(interval.high, 3)}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else ""


def _markdown(table: Sequence[Sequence[str]]) -> list[str]:
    head, *body = [f"| {' | '.join(row)} |" for row in table]
    return [head, "|---|---|" + "---:|" * (len(table[0]) - 2), *body]
