"""What a race leaves in its study's folder: its contestants, what is known of each, and times; read back as written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studies.throughput.contestant import Contestant

CASES, GROWTH_FILE = "cases", "growth.csv"
"""In the study's folder: that of the races, and how cost grows."""


@dataclass(eq=False)
class Facts:
    """What is known of a contestant beside its times. Seconds and bytes; `error` is why there are none.

    `account`: seconds of a training step by operator (`operators.by_operator`).
    """

    parameters: int = 0
    flops: dict[str, float] = field(default_factory=dict)
    description: dict[str, str] = field(default_factory=dict)
    startup_seconds: float = float("nan")
    first_seconds: dict[str, float] = field(default_factory=dict)
    memory_bytes: float = float("nan")
    account: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Time:
    """`seconds` that `units` of a block took in a round."""

    contestant: Contestant
    block: str
    round: int
    seconds: float
    units: int


@dataclass(frozen=True, eq=False)
class Case:
    """A race that was run: a workload, the facts of every contestant, and their times by round."""

    workload: str
    batch: int
    evaluation_batch: int
    facts: dict[Contestant, Facts]
    times: list[Time]

    @property
    def dtypes(self) -> list[str]:
        return list(dict.fromkeys(contestant.dtype for contestant in self.facts))

    def blocks(self, contestant: Contestant) -> list[str]:
        """The blocks that were timed; none for one that failed first, or was not in the race."""
        return list(dict.fromkeys(time.block for time in self.times if time.contestant == contestant))

    def seconds(self, contestant: Contestant, block: str) -> NDArray[np.float64]:
        """Seconds a unit, round by round."""
        return np.array(
            [time.seconds / time.units for time in self.times if (time.contestant, time.block) == (contestant, block)]
        )

    def to_json(self) -> str:
        """Whoever took part is an entry of a list, whose place the times name."""
        place = {contestant: i for i, contestant in enumerate(self.facts)}
        described = {
            "workload": self.workload,
            "batch": self.batch,
            "evaluation_batch": self.evaluation_batch,
            "contestants": [{**asdict(contestant), "facts": asdict(facts)} for contestant, facts in self.facts.items()],
            "times": [{**asdict(time), "contestant": place[time.contestant]} for time in self.times],
        }
        return json.dumps(described, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Case:
        values = json.loads(text)
        known = [Facts(**described.pop("facts")) for described in values["contestants"]]
        contestants = [Contestant(**described) for described in values.pop("contestants")]
        times = [Time(**{**time, "contestant": contestants[time["contestant"]]}) for time in values.pop("times")]
        return cls(**values, facts=dict(zip(contestants, known, strict=True)), times=times)


def read_cases(out: Path) -> list[Case]:
    """The races in a folder; a ValueError in one line for one that another version wrote."""
    return [read_case(path) for path in sorted((out / CASES).glob("*.json"))]


def read_case(path: Path) -> Case:
    """The race in a file; a ValueError in one line for one that another version wrote."""
    try:
        return Case.from_json(path.read_text())
    except (TypeError, KeyError, json.JSONDecodeError):
        raise ValueError(f"{path} is no race of this version; give another folder with --out") from None
