"""Who takes part in a race: a framework of this project's or a peer, in a precision, eager or compiled."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backends.interface import Execution

REFERENCE = "torch"
"""Whom the others are compared with."""
PEERS = ("diffusers", "denoising-diffusion-pytorch")
CEILINGS, GROWTH = "ceilings", "growth"
"""Workers that are no contestants of each other: what the machine reaches at most, and how cost grows."""
FLOAT32 = "float32"


@dataclass(frozen=True)
class Contestant:
    """One of a race. Its text is made in `label`, and never read back."""

    name: str
    dtype: str = FLOAT32
    compiled: bool = False

    @property
    def label(self) -> str:
        """The name, and what is not eager float32: "torch, bfloat16, compiled"."""
        dtype = [] if self.dtype == FLOAT32 else [self.dtype]
        return ", ".join([self.name, *dtype, *["compiled"] * self.compiled])

    @property
    def is_peer(self) -> bool:
        return self.name in PEERS

    @property
    def is_ceiling(self) -> bool:
        return self.name == CEILINGS

    def execution(self, device: str) -> Execution:
        """How its worker runs."""
        return Execution(device, self.dtype, self.compiled)

    def in_float32(self) -> Contestant:
        """The same, run in float32."""
        return replace(self, dtype=FLOAT32)

    def once_compiled(self) -> Contestant:
        return replace(self, compiled=True)
