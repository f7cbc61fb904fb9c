"""What a race leaves in its study's folder: entries, what is known of each, and times; and how it is read back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backends.interface import Execution

CASES, GROWTH = "cases", "growth.csv"
"""In the study's folder: that of the races, and how cost grows."""
FLOAT32, CEILINGS = "float32", "ceilings"


@dataclass(frozen=True)
class Entry:
    """A contestant of one case: who, and how it runs; its label says what is not eager float32."""

    name: str
    execution: Execution

    @property
    def label(self) -> str:
        dtype = "" if self.execution.dtype == FLOAT32 else f", {self.execution.dtype}"
        return self.name + dtype + (", compiled" if self.execution.compile else "")


@dataclass(eq=False)
class Facts:
    """What is known of an entry beside its times. Seconds and bytes; `error` is why there are none.

    `account`: seconds of a training step by operator (`operators.by_operator`).
    """

    dtype: str = FLOAT32
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

    label: str
    block: str
    round: int
    seconds: float
    units: int


@dataclass(frozen=True, eq=False)
class Case:
    """A race that was run: a workload, the facts of every entry by label, and its times by round."""

    workload: str
    batch: int
    evaluation_batch: int
    facts: dict[str, Facts]
    times: list[Time]

    @property
    def dtypes(self) -> list[str]:
        return list(dict.fromkeys(facts.dtype for facts in self.facts.values()))

    def blocks(self, label: str) -> list[str]:
        """The blocks that were timed; none for an entry that failed first, or was not in the race."""
        return list(dict.fromkeys(time.block for time in self.times if time.label == label))

    def seconds(self, label: str, block: str) -> NDArray[np.float64]:
        """Seconds a unit, round by round."""
        return np.array(
            [time.seconds / time.units for time in self.times if (time.label, time.block) == (label, block)]
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Case:
        values = json.loads(text)
        facts = {label: Facts(**known) for label, known in values.pop("facts").items()}
        return cls(**{**values, "times": [Time(**time) for time in values["times"]]}, facts=facts)


def read_cases(out: Path) -> list[Case]:
    """The races in a folder; a ValueError in one line for one that another version wrote."""
    return [read_case(path) for path in sorted((out / CASES).glob("*.json"))]


def read_case(path: Path) -> Case:
    """The race in a file; a ValueError in one line for one that another version wrote."""
    try:
        return Case.from_json(path.read_text())
    except (TypeError, KeyError, json.JSONDecodeError):
        raise ValueError(f"{path} is no race of this version; give another folder with --out") from None
