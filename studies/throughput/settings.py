"""What a study of speed is asked to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from backends import BACKENDS
from studies.plan.command import Flag, check_at_least, check_at_most, check_distinct, check_own_folder
from studies.plan.fields import Names
from studies.plan.flags import parse_flags
from studies.throughput.contestant import PEERS

CONTESTANTS = (*BACKENDS, *PEERS)
WORKLOADS = ("digits", "images", "cifar10")
DTYPES = ("float32", "bfloat16")
CLOCKS = ("wall", "cpu")
MODES = {"eager": (False,), "compiled": (True,), "both": (False, True)}


@dataclass(frozen=True)
class ThroughputSettings:
    """Every setting of a study of speed."""

    preset: Annotated[
        str,
        Names(PRESETS),
        Flag(
            help="starting values: 'default', or 'smoke', which races a small network on digits for 3 rounds, and does"
            " not measure growth"
        ),
    ] = "default"
    out: Annotated[Path, Flag(help="the results' folder; what is there already is not measured again")] = Path(
        "runs/throughput"
    )
    run: Annotated[
        Path | None,
        Flag(help="a finished run on digits: adds the time to its verdict, ours and the usual way"),
    ] = None
    workloads: Annotated[
        tuple[str, ...],
        Names(WORKLOADS),
        Flag(help="digits (1x8x8), images (3x32x32), cifar10 (the 35.7 M network, for GPUs)"),
    ] = ("digits", "images")
    widths: Annotated[tuple[int, ...], Flag(help="U-Net channels per level of digits and images, finest first")] = (
        32,
        64,
    )
    contestants: Annotated[
        tuple[str, ...],
        Names(CONTESTANTS),
        Flag(help="torch, keras, diffusers, denoising-diffusion-pytorch; those not installed are named"),
    ] = CONTESTANTS
    modes: Annotated[str, Names(MODES), Flag(help="eager, compiled (torch.compile; XLA for Keras), or both")] = "eager"
    dtypes: Annotated[tuple[str, ...], Names(DTYPES), Flag(help="float32, bfloat16 (autocast)")] = ("float32",)
    rounds: Annotated[int, Flag(help="times that every block is timed, in turn; 6 or more give 95 % intervals")] = 9
    block_seconds: Annotated[float, Flag(help="about how long one timed block is")] = 0.5
    clock: Annotated[
        str,
        Names(CLOCKS),
        Flag(help="wall, or cpu: processor seconds, for one thread on a machine that others use too"),
    ] = "wall"
    growth: Annotated[bool, Flag(help="also measure how time and memory grow with steps, examples, cells and T")] = True
    device: Annotated[str, Flag(help="auto, cpu, cuda")] = "auto"
    threads: Annotated[int, Flag(help="threads of each worker on a CPU")] = 1

    @property
    def peers(self) -> list[str]:
        return [name for name in self.contestants if name in PEERS]


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {
        "out": Path("runs/smoke-throughput"),
        "workloads": ("digits",),
        "widths": (8, 16),
        "rounds": 3,
        "block_seconds": 0.2,
        "growth": False,
    },
}
"""Changes to the default settings by name."""

GROUPS = {"run": "preset", "comparison": "workloads", "measurement": "rounds", "execution": "device"}
"""The headings of --help, and the first setting under each."""


def parse_throughput_settings(argv: Sequence[str], description: str) -> ThroughputSettings:
    """The settings of a command line, checked; a ValueError in one line for a value that no run could use."""
    settings = parse_flags(ThroughputSettings, argv, description, GROUPS, presets=PRESETS)
    several = ("workloads", "contestants", "dtypes")
    empty = [name for name in several if not getattr(settings, name)]
    if empty:
        raise ValueError(f"--{empty[0]} names at least one, got none")
    check_distinct(settings, several)
    check_at_least(settings, {"rounds": 1, "threads": 1})
    check_at_most(settings)
    if settings.clock == "cpu" and (settings.threads != 1 or settings.device not in ("auto", "cpu")):
        raise ValueError("--clock cpu is for --threads 1 on a CPU: it adds up threads, and does not see a GPU")
    if not (math.isfinite(settings.block_seconds) and settings.block_seconds > 0):
        raise ValueError(f"--block-seconds is a positive number, got {settings.block_seconds}")
    check_own_folder(settings.out, settings.run)
    return settings
