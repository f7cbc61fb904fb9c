"""A learned schedule in a training state: "schedule/weights", "schedule/ema", "schedule/adam_m", "schedule/adam_v"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.states import PARTS
from core.learned_schedule import LearnedSchedule

PREFIX = "schedule/"


def schedule_parts(learned: LearnedSchedule | None, state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Each of PARTS, (learned.size,); none for a trainer of a fixed schedule. A ValueError where they do not fit."""
    shapes = {name: np.shape(state[name]) for name in state if name.startswith(PREFIX)}
    expected = {} if learned is None else {f"{PREFIX}{part}": (learned.size,) for part in PARTS}
    if shapes != expected:
        said = f"a schedule of {learned.size} parameters" if learned else "a fixed schedule"
        raise ValueError(
            f"this trainer has {said}, the training state {shapes or 'none that was learned'}; "
            "give the trainer the schedule that the state was trained with"
        )
    return {name.removeprefix(PREFIX): np.asarray(state[name]) for name in expected}
