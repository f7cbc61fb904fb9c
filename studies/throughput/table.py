"""From the times of a race to its table: medians with their spread, and ratios with intervals over rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import quantile_test

from studies.statistics import Interval
from studies.throughput.cases import CEILINGS, FLOAT32, Case

REFERENCE = "torch"
LOOPS = ("bound", "sample")


@dataclass(frozen=True)
class Speed:
    """One contestant's block in one case; seconds are of one unit. A share is NaN where there is no ceiling."""

    workload: str
    label: str
    dtype: str
    block: str
    seconds: float
    seconds_q1: float
    seconds_q3: float
    items_per_second: float
    gflops: float
    share_convolution: float
    share_product: float
    first_seconds: float


@dataclass(frozen=True)
class Compiled:
    """What compiling a contestant costs at the start, and what it gains in a training step, in seconds."""

    label: str
    extra_seconds: float
    gained_seconds: float

    @property
    def steps(self) -> float:
        """After how many steps it has paid; inf where a step is no faster."""
        return max(0.0, self.extra_seconds) / self.gained_seconds if self.gained_seconds > 0 else math.inf


def median_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """The median between two order statistics, the innermost pair that holds it with this probability.

    Distribution-free: exact for independent values of any continuous distribution. Where there are too few for the
    confidence, below 6 at 95 %, the interval is the whole line.
    """
    given = np.asarray(values, np.float64)
    ends = quantile_test(given, p=0.5).confidence_interval(confidence)
    low, high = (float(end) if np.isfinite(end) else sign * math.inf for end, sign in zip(ends, (-1, 1), strict=True))
    return Interval(float(np.median(given)), low, high, confidence, len(given))


def in_dtype(name: str, dtype: str) -> str:
    """The label of an eager contestant."""
    return name if dtype == FLOAT32 else f"{name}, {dtype}"


def is_ceiling(label: str) -> bool:
    return label.split(", ")[0] == CEILINGS


def speeds(case: Case) -> list[Speed]:
    """Every contestant's blocks, in the order of the race."""
    return [_speed(case, label, block) for label in case.facts for block in case.blocks(label)]


def _speed(case: Case, label: str, block: str) -> Speed:
    seconds, facts = case.seconds(label, block), case.facts[label]
    median = float(np.median(seconds))
    flops = facts.flops.get(block, math.nan)
    items = case.evaluation_batch if block in ("network", *LOOPS) else case.batch
    return Speed(
        workload=case.workload,
        label=label,
        dtype=facts.dtype,
        block=block,
        seconds=median,
        seconds_q1=float(np.quantile(seconds, 0.25)),
        seconds_q3=float(np.quantile(seconds, 0.75)),
        items_per_second=items / median if not is_ceiling(label) else math.nan,
        gflops=flops / median / 1e9,
        share_convolution=_share(case, label, flops / seconds, "convolution"),
        share_product=_share(case, label, flops / seconds, "product"),
        first_seconds=facts.first_seconds.get(block, math.nan),
    )


def _share(case: Case, label: str, rate: NDArray[np.float64], ceiling: str) -> float:
    """The median over rounds of a rate over the ceiling's in the same round and dtype."""
    limits = in_dtype(CEILINGS, case.facts[label].dtype)
    if is_ceiling(label) or ceiling not in case.blocks(limits):
        return math.nan
    at_most = case.facts[limits].flops[ceiling] / case.seconds(limits, ceiling)
    return float(np.median(np.divide(*_same_rounds(rate, at_most))))


def time_over(case: Case, label: str, other: str) -> Interval | None:
    """A contestant's seconds a training step over another's; None without either, and for a contestant and itself."""
    if label == other or "train" not in case.blocks(label) or "train" not in case.blocks(other):
        return None
    return median_interval(np.divide(*_same_rounds(case.seconds(label, "train"), case.seconds(other, "train"))))


def time_over_torch(case: Case, label: str) -> Interval | None:
    """A contestant's seconds a training step over those of `REFERENCE`, eager and in float32 where that was raced."""
    first = next((name for name in case.facts if name.startswith(REFERENCE)), REFERENCE)
    return time_over(case, label, first)


def torch_rate_over(case: Case, label: str) -> Interval | None:
    """The operations a second of the training step of `REFERENCE`, eager and in the same dtype, over a contestant's."""
    ours = in_dtype(REFERENCE, case.facts[label].dtype)
    ratio = time_over(case, label, ours)
    if ratio is None:
        return None
    work = case.facts[ours].flops["train"] / case.facts[label].flops["train"]
    return Interval(ratio.estimate * work, ratio.low * work, ratio.high * work, ratio.confidence, ratio.n)


def loop_over_network(case: Case, label: str, loop: str) -> Interval | None:
    """The seconds of an evaluation within a loop over one of the bare network's; None where it has no such loop."""
    if not {loop, "network"} <= set(case.blocks(label)):
        return None
    return median_interval(np.divide(*_same_rounds(case.seconds(label, loop), case.seconds(label, "network"))))


def compiled(case: Case) -> list[Compiled]:
    """What compiling costs and gains, for each contestant that ran both eagerly and compiled."""
    pairs = []
    for label in case.facts:
        other = f"{label}, compiled"
        if "train" in case.blocks(label) and "train" in case.blocks(other):
            eager, after = _speed(case, label, "train"), _speed(case, other, "train")
            extra = after.first_seconds - eager.first_seconds
            pairs.append(Compiled(label, extra, eager.seconds - after.seconds))
    return pairs


def _same_rounds(*series: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The rounds that all have: a contestant that failed has only the first ones."""
    return [values[: min(len(other) for other in series)] for values in series]
