"""A training state in neutral form, flat: "weights/NAME", "ema/NAME", "adam_m/NAME", "adam_v/NAME", and "step" ().

A learned schedule has its own: "schedule/weights", "schedule/ema", "schedule/adam_m", "schedule/adam_v".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.networks import NetworkSettings, check_weights
from core.learned_schedule import LearnedSchedule

Named = dict[str, NDArray[Any]]

PARTS = ("weights", "ema", "adam_m", "adam_v")

SCHEDULE = "schedule/"
"""What the names of a learned schedule's parts begin with."""


def joined(parts: Mapping[str, Named], step: int) -> Named:
    """The state with the given PARTS after so many steps."""
    flat = {f"{part}/{name}": array for part, named in parts.items() for name, array in named.items()}
    return {**flat, "step": np.array(step, dtype=np.int64)}


def part_of(state: Mapping[str, NDArray[Any]], part: str, settings: NetworkSettings) -> Named:
    """One of PARTS by neutral name. A ValueError in one line where it is not that of a network of `settings`."""
    prefix = f"{part}/"
    named = {name.removeprefix(prefix): np.asarray(state[name]) for name in state if name.startswith(prefix)}
    check_weights(settings, named)
    return named


def step_of(state: Mapping[str, NDArray[Any]]) -> int:
    """How many steps the state's trainer has taken."""
    if "step" not in state:
        raise ValueError("this training state has no entry step; it is not one that a trainer's state() made")
    return int(state["step"])


def schedule_parts(learned: LearnedSchedule | None, state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Each of PARTS, (learned.size,); none for a trainer of a fixed schedule. A ValueError where they do not fit."""
    shapes = {name: np.shape(state[name]) for name in state if name.startswith(SCHEDULE)}
    expected = {} if learned is None else {f"{SCHEDULE}{part}": (learned.size,) for part in PARTS}
    if shapes != expected:
        said = f"a schedule of {learned.size} parameters" if learned else "a fixed schedule"
        raise ValueError(
            f"this trainer has {said}, the training state {shapes or 'none that was learned'}; "
            "give the trainer the schedule that the state was trained with"
        )
    return {name.removeprefix(SCHEDULE): np.asarray(state[name]) for name in expected}
