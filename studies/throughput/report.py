"""The report of a study of speed: results.csv, figures and page in its folder, and its tables for the terminal."""

# ruff: noqa: RUF001
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from backends import BACKENDS
from studies.plan.command import read_recorded
from studies.reporting.figures import write_figures
from studies.reporting.names import NAMES
from studies.reporting.numbers import count, listed, plain
from studies.reporting.page import about, again, as_figure, template
from studies.reporting.plotting import FAINT, INK, PALETTE, Panel, Plot
from studies.reporting.terminal import aligned, terminal_width, wrapped
from studies.statistics import Interval
from studies.store import files
from studies.store.folder import RunFolder
from studies.store.reading import Run
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
    "Peers run in the environment that their users have, ours in that of a study’s cells, where the allocator keeps the"
    " memory of a step for the next.",
    "Start: from starting the process to a network in place. First step: with compilation or tracing.",
    "Where a step goes: self time by PyTorch’s profiler over a few steps after the rounds. Its own microseconds an"
    " operator make these steps longer, and are mostly outside operators.",
)
CLOCK_SAID = {
    "wall": "Seconds are wall time.",
    "cpu": "Seconds are processor time of one thread, because others used the machine; start and growth are wall time.",
}
Table = list[list[str]]


def make_report(out: Path) -> tuple[str, Path]:
    """Writes results.csv, figures and page from the folder alone; returns the tables to close with and the page's path.

    ValueError in one line where the folder is of another study, or has no race yet.
    """
    settings, cases = read_recorded(out, ThroughputSettings), read_cases(out)
    if not cases:
        raise ValueError(f"{out} has no race yet; run its study's command to the end first")
    grown = pd.read_csv(out / GROWTH_FILE) if (out / GROWTH_FILE).is_file() else None
    head, said = headline(cases), sentences(settings, cases, grown)
    titled = tables(settings, cases)
    width = terminal_width()
    closing = [*wrapped(head, width), ""]
    for title, caption, table in titled:
        closing += [title, *aligned(table, width), *(wrapped(caption, width) if caption else []), ""]

    results = pd.DataFrame([speed.row() for case in cases for speed in speeds(case)])
    files.write_text(RunFolder(out).results, results.to_csv(index=False))
    plots = [figure(cases)] if grown is None else [figure(cases), growth.figure(grown)]
    write_figures(plots, RunFolder(out).figures)
    run = _record(out, cases)
    page = template("throughput/report.html").render(
        name=run.name,
        kicker=f"Throughput · {run.name} · {count(len(cases), 'race')}",
        headline=head,
        sentences=said,
        trouble=[
            f"Failed: {_network(case)}, {contestant.label}: {facts.error}"
            for case in cases
            for contestant, facts in case.facts.items()
            if facts.error
        ],
        figures=[as_figure(plot) for plot in plots],
        tables=titled,
        method=[*METHOD, CLOCK_SAID[settings.clock]],
        papers=(),
        run=about(run),
        again=again(out),
    )
    files.write_text(RunFolder(out).page, page)
    words = [line for sentence in said for line in wrapped(sentence, width)]
    return "\n".join([*closing, *words]), RunFolder(out).page


def _record(out: Path, cases: Sequence[Case]) -> Run:
    """Settings and environment of the study, without rows or cells, of which it has none; with the devices raced on."""
    folder = RunFolder(out)
    environment = folder.read_environment() if folder.environment.is_file() else {}
    described = {facts.description.get("device", "") for case in cases for facts in case.facts.values()}
    if devices := sorted(described - {""}):
        environment["devices"] = ", ".join(devices)
    return Run(out.resolve().name, out, folder.read_settings(), environment, pd.DataFrame(), ())


def tables(settings: ThroughputSettings, cases: Sequence[Case]) -> list[tuple[str, str, Table]]:
    """Title, what is to be said of it, and rows of every table."""
    result: list[tuple[str, str, Table]] = []
    for case in cases:
        title = f"{_network(case)}, batch {case.batch}"
        result.append((f"Training step: {title}", "", training_table(case)))
        loops = _joined(loop_sentences(case))
        result.append((f"Evaluation, start and memory: {title}", loops, evaluation_table(case)))
        if (operator_table := account.table(case)) is not None:
            said = _joined(line for dtype in case.dtypes for line in account.sentences(case, dtype))
            result.append((f"Where a training step goes, ms and share: {title}", said, operator_table))
    if settings.run is None:
        return result
    return result + [(title, "", table) for title, table in answers.tables(settings.run, cases)]


def _joined(clauses: Iterable[str]) -> str:
    """One sentence of clauses; empty without any."""
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}." if text else ""


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
                plain(facts.startup_seconds, 2) if math.isfinite(facts.startup_seconds) else "",
                plain(facts.first_seconds["train"], 2),
                f"{facts.memory_bytes / 2**20:,.0f}" if math.isfinite(facts.memory_bytes) else "",
            ]
        )
    return rows


def _network(case: Case) -> str:
    """What a race was run on, in words."""
    return {"run": "the run’s own network"}.get(case.workload, case.workload)


def headline(cases: Sequence[Case]) -> str:
    """The training step of the first race: how long, how much of what the machine can do, and how long the best peer's.

    Of PyTorch, eager and in float32, or else of whoever was raced first.
    """
    for case in cases:
        trained = {speed.contestant: speed for speed in speeds(case, "train")}
        first = Contestant(REFERENCE) if Contestant(REFERENCE) in trained else next(iter(trained), None)
        if first is None:
            continue
        speed = trained[first]
        share = (
            f", {_percent(speed.share_convolution)} of the rate of a convolution alone"
            if math.isfinite(speed.share_convolution)
            else ""
        )
        ratios = {peer: time_over(case, peer, first) for peer in trained if peer.is_peer and peer.dtype == first.dtype}
        times = {peer: ratio.estimate for peer, ratio in ratios.items() if ratio is not None}
        best = min(times, key=lambda peer: times[peer], default=None)
        against = "" if best is None else f"; {best.label} takes {plain(times[best], 3)} times as long"
        step = f"A training step on {_network(case)}, batch {case.batch}, takes {plain(1e3 * speed.seconds, 3)} ms"
        return f"{step} in {NAMES.get(first.label, first.label)}{share}{against}"
    return "Nothing was timed: every contestant failed"


def sentences(settings: ThroughputSettings, cases: Sequence[Case], grown: pd.DataFrame | None) -> list[str]:
    """Rates against ceiling and peers and whether compiling pays, by case; the time to a verdict; how cost grows."""
    by_case = {_network(case): "; ".join(case_sentences(case)) for case in cases}
    lines = [f"On {network}: {said}." for network, said in by_case.items() if said]
    if settings.run is not None:
        lines += answers.sentences(settings.run, cases)
    return lines if grown is None else lines + growth.sentences(grown)


def case_sentences(case: Case) -> Iterator[str]:
    for dtype in case.dtypes:
        yield from _torch_sentences(case, dtype)
    for contestant in case.facts:
        if (ratio := time_over(case, contestant, contestant.in_float32())) is not None:
            times = f"{plain(ratio.estimate, 3)} ({_range(ratio)}) times"
            yield f"{contestant.label} takes {times} a step’s time in {FLOAT32}"
    for pair in compiled(case):
        steps = pair.steps
        after = f"pays after {steps:,.0f} steps" if math.isfinite(steps) else "does not pay: a step is no faster"
        yield f"compiling {pair.contestant.label} costs {pair.extra_seconds:.0f} s at the start and {after}"


def loop_sentences(case: Case) -> Iterator[str]:
    """What the loops of the bound and of a chain cost beside the network's own evaluations."""
    for ours in map(Contestant, BACKENDS):
        over = {loop: loop_over_network(case, ours, loop) for loop in LOOPS}
        times = [
            f"{plain(ratio.estimate, 3)} ({_range(ratio)}) times in the {loop} loop"
            for loop, ratio in over.items()
            if ratio is not None
        ]
        if times:
            yield f"an evaluation of {ours.label} takes {listed(times)} what the bare network’s takes"


def _torch_sentences(case: Case, dtype: str) -> Iterator[str]:
    """The eager training step in a dtype against the ceiling and against the best peer, which may be compiled."""
    ours = Contestant(REFERENCE, dtype)
    for speed in speeds(case, "train"):
        if speed.contestant == ours and math.isfinite(speed.share_convolution):
            yield f"{ours.label} reaches {_percent(speed.share_convolution)} of the convolution ceiling"
    peers = [contestant for contestant in case.facts if contestant.is_peer and contestant.dtype == dtype]
    against = {peer: rate for peer in peers if (rate := torch_rate_over(case, peer)) is not None}
    if against:
        best = min(against, key=lambda peer: against[peer].estimate)
        rate = against[best]
        yield (
            f"{ours.label} does {plain(rate.estimate, 3)} ({_range(rate)}) times the operations a second of the best "
            f"peer, {best.label}"
        )


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
        title = f"{_network(case)}, {dtype}"
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
    return f"{100 * share:.0f} %" if math.isfinite(share) else ""
