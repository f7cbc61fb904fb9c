"""From the times of a race to its table: medians with their spread, and ratios with intervals over rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import quantile_test

from studies.statistics import Interval
from studies.throughput.cases import Case
from studies.throughput.contestant import CEILINGS, REFERENCE, Contestant

LOOPS = ("bound", "sample")


@dataclass(frozen=True)
class Speed:
    """One contestant's block in one case; seconds are of one unit. A share is NaN where there is no ceiling."""

    workload: str
    contestant: Contestant
    block: str
    seconds: float
    seconds_q1: float
    seconds_q3: float
    items_per_second: float
    gflops: float
    share_convolution: float
    share_product: float
    first_seconds: float

    def row(self) -> dict[str, Any]:
        """As results.csv has it: the contestant's label, and its dtype."""
        numbers = {field.name: getattr(self, field.name) for field in fields(self)}
        who = {"workload": numbers.pop("workload"), "label": self.contestant.label, "dtype": self.contestant.dtype}
        del numbers["contestant"]
        return {**who, **numbers}


@dataclass(frozen=True)
class Compiled:
    """What compiling a contestant costs at the start, and what it gains in a training step, in seconds."""

    contestant: Contestant
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


def speeds(case: Case, block: str | None = None) -> list[Speed]:
    """Every contestant's blocks, or those of one name, in the order of the race."""
    timed = [(contestant, name) for contestant in case.facts for name in case.blocks(contestant)]
    return [_speed(case, contestant, name) for contestant, name in timed if block in (None, name)]


def _speed(case: Case, contestant: Contestant, block: str) -> Speed:
    seconds, facts = case.seconds(contestant, block), case.facts[contestant]
    median = float(np.median(seconds))
    flops = facts.flops.get(block, math.nan)
    items = case.evaluation_batch if block in ("network", *LOOPS) else case.batch
    return Speed(
        workload=case.workload,
        contestant=contestant,
        block=block,
        seconds=median,
        seconds_q1=float(np.quantile(seconds, 0.25)),
        seconds_q3=float(np.quantile(seconds, 0.75)),
        items_per_second=items / median if not contestant.is_ceiling else math.nan,
        gflops=flops / median / 1e9,
        share_convolution=_share(case, contestant, flops / seconds, "convolution"),
        share_product=_share(case, contestant, flops / seconds, "product"),
        first_seconds=facts.first_seconds.get(block, math.nan),
    )


def _share(case: Case, contestant: Contestant, rate: NDArray[np.float64], ceiling: str) -> float:
    """The median over rounds of a rate over the ceiling's in the same round and dtype."""
    limits = Contestant(CEILINGS, contestant.dtype)
    if contestant.is_ceiling or ceiling not in case.blocks(limits):
        return math.nan
    at_most = case.facts[limits].flops[ceiling] / case.seconds(limits, ceiling)
    return float(np.median(np.divide(*_same_rounds(rate, at_most))))


def time_over(case: Case, contestant: Contestant, other: Contestant) -> Interval | None:
    """A contestant's seconds a training step over another's; None without either, and for a contestant and itself."""
    if contestant == other or "train" not in case.blocks(contestant) or "train" not in case.blocks(other):
        return None
    return median_interval(np.divide(*_same_rounds(case.seconds(contestant, "train"), case.seconds(other, "train"))))


def time_over_torch(case: Case, contestant: Contestant) -> Interval | None:
    """A contestant's seconds a training step over those of `REFERENCE`, eager and in float32 where that was raced."""
    first = next((raced for raced in case.facts if raced.name == REFERENCE), Contestant(REFERENCE))
    return time_over(case, contestant, first)


def torch_rate_over(case: Case, contestant: Contestant) -> Interval | None:
    """The operations a second of the training step of `REFERENCE`, eager and in the same dtype, over a contestant's."""
    ours = Contestant(REFERENCE, contestant.dtype)
    ratio = time_over(case, contestant, ours)
    if ratio is None:
        return None
    work = case.facts[ours].flops["train"] / case.facts[contestant].flops["train"]
    return Interval(ratio.estimate * work, ratio.low * work, ratio.high * work, ratio.confidence, ratio.n)


def loop_over_network(case: Case, contestant: Contestant, loop: str) -> Interval | None:
    """The seconds of an evaluation within a loop over one of the bare network's; None where it has no such loop."""
    if not {loop, "network"} <= set(case.blocks(contestant)):
        return None
    return median_interval(
        np.divide(*_same_rounds(case.seconds(contestant, loop), case.seconds(contestant, "network")))
    )


def compiled(case: Case) -> list[Compiled]:
    """What compiling costs and gains, for each contestant that ran both eagerly and compiled."""
    pairs = []
    for contestant in case.facts:
        other = contestant.once_compiled()
        if other != contestant and "train" in case.blocks(contestant) and "train" in case.blocks(other):
            eager, after = _speed(case, contestant, "train"), _speed(case, other, "train")
            extra = after.first_seconds - eager.first_seconds
            pairs.append(Compiled(contestant, extra, eager.seconds - after.seconds))
    return pairs


def _same_rounds(*series: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The rounds that all have: a contestant that failed has only the first ones."""
    return [values[: min(len(other) for other in series)] for values in series]
