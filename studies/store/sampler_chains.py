"""Chains as values: one way to sample, the name that rows and arrays have it by, and the one reader of such names."""

from __future__ import annotations

import re
from dataclasses import dataclass

SPACINGS = ("uniform", "quadratic", "logsnr")
"""How the visited steps are spread: see `Schedule.respaced`."""


@dataclass(frozen=True, order=True)
class Family:
    """Chains that differ in their number of steps alone: a sampler, and the spacing (of SPACINGS) of what it visits."""

    sampler: str
    spacing: str = "uniform"

    def __str__(self) -> str:
        """ "ddim", "dpm_solver-logsnr"."""
        return self.sampler if self.spacing == "uniform" else f"{self.sampler}-{self.spacing}"

    @classmethod
    def named(cls, text: str) -> Family:
        """The family that is written as `text`."""
        sampler, _, spacing = text.partition("-")
        return cls(sampler, spacing or "uniform")


@dataclass(frozen=True)
class Chain:
    """One way to sample: `steps` network evaluations by `sampler`, at the steps that `spacing` (of SPACINGS) visits."""

    sampler: str
    steps: int
    spacing: str = "uniform"

    @property
    def family(self) -> Family:
        return Family(self.sampler, self.spacing)

    @property
    def name(self) -> str:
        """What the column `sampler` holds: "ddim-50", "dpm_solver-20-logsnr"."""
        return f"{self.sampler}-{self.steps}" + ("" if self.spacing == "uniform" else f"-{self.spacing}")

    @classmethod
    def named(cls, text: str) -> Chain | None:
        """The chain of that name; None for a name without a number of steps, as older runs have."""
        parts = re.fullmatch(r"([^-]+)-(\d+)(?:-(.+))?", text)
        return None if parts is None else cls(parts[1], int(parts[2]), parts[3] or "uniform")
