"""What the numbers of a file mean, by their dtype and by `levels`: images of 256 levels, level indices, or a continuum.

uint8 is images of 256 levels, as everybody has them, and a uint8 array (N, H, W) has one channel. Given K levels, whole
numbers 0..K-1 count them, and whatever else is there are the levels themselves, -1 + 2k/(K-1). Floats without levels
are continuous data. What could be meant in several ways is refused in one line that says how to write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.gaussian import bin_width

BYTE_LEVELS = 256
PLAIN = 1 / 4
"""How far, in steps from level to level, a value may lie from the level that it is taken for."""

Parts = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Numbers:
    """The sets of a file by what they are called in words, as float64; K or None; and remarks on what was made of them.

    `is_density`: whether the data are continuous, so that a scale may be chosen for them.
    """

    parts: dict[str, NDArray[np.float64]]
    levels: int | None
    remarks: tuple[str, ...] = ()


def meaning_of(parts: Parts, levels: int | None, *, scaled: bool) -> Numbers:
    """What the arrays of a file mean. `scaled`: whether a rule will bring continuous data to unit scale.

    ValueError in one line for what is no real number, and where a continuum, levels or a scale could be meant.
    """
    for what, array in parts.items():
        _check_real(what, array)
    parts, remarks = _with_channel(parts)
    is_bytes = all(array.dtype == np.uint8 for array in parts.values())
    if levels is None and is_bytes:
        _check_bytes(parts)
        levels = BYTE_LEVELS
        remarks += ("uint8 is taken as 256 levels, 0 to 255",)
    if levels is not None:
        if scaled:
            raise ValueError(
                f"--scale is for continuous data, got {levels} levels, which are -1 to 1; leave --scale out, "
                "or store floats, without levels, for a density"
            )
        return Numbers(_on_levels(parts, levels), levels, remarks)
    _check_continuous(parts, scaled)
    return Numbers({what: array.astype(np.float64) for what, array in parts.items()}, None, remarks)


def _check_real(what: str, array: NDArray[Any]) -> None:
    if array.dtype.kind not in "iuf":
        truth = array.dtype.kind == "b"
        advice = "store 0 and 1 as uint8, with levels=2" if truth else "turn what it stands for into numbers first"
        raise ValueError(f"the {what} holds real numbers, as floats or integers, got {array.dtype}; {advice}")


def _with_channel(parts: Parts) -> tuple[Parts, tuple[str, ...]]:
    """uint8 images (N, H, W) as (N, H, W, 1); those with channels first are refused."""
    grey = [what for what, array in parts.items() if array.dtype == np.uint8 and array.ndim == 3]
    for what, array in parts.items():
        if array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] > 4 and array.shape[1] in (1, 3, 4):
            raise ValueError(
                f"the {what} is of images (H, W, C), channels last, got {array.shape[1:]}; "
                "move the channels with numpy.moveaxis(x, 1, -1)"
            )
    if not grey:
        return parts, ()
    with_channel = {what: array[..., None] if what in grey else array for what, array in parts.items()}
    return with_channel, ("uint8 (N, H, W) is taken as images of one channel; store series of bytes as int16",)


def _check_bytes(parts: Parts) -> None:
    """ValueError where bytes use less than half of their 256 levels: others may be meant."""
    most = max(int(array.max(initial=0)) for array in parts.values())
    if most < BYTE_LEVELS // 2:
        raise ValueError(
            f"the {' and the '.join(parts)} are uint8, which is taken as 256 levels, and reach no further than {most}; "
            f"add levels={most + 1} to the file, or levels=256 where dark images are meant"
        )


def _check_continuous(parts: Parts, scaled: bool) -> None:
    """ValueError where one set may mean another thing than the other, or integers are to be a continuum unscaled."""
    kinds = ["uint8" if array.dtype == np.uint8 else array.dtype.kind.replace("u", "i") for array in parts.values()]
    if len(set(kinds)) > 1:
        named = " and ".join(f"{array.dtype} in the {what}" for what, array in parts.items())
        raise ValueError(f"train and test are alike in what their numbers mean, got {named}; store both in one dtype")
    for what, array in parts.items():
        if array.dtype.kind != "f" and not scaled:
            least = min(int(part.min(initial=0)) for part in parts.values())
            most = max(int(part.max(initial=0)) for part in parts.values())
            counts = f"add levels={most + 1} to the file if these are counted from 0, or " if least >= 0 else ""
            raise ValueError(
                f"the {what} holds {array.dtype} from {least} to {most}, which may be levels or measurements; "
                f"{counts}have measurements scaled with --scale standard or minmax"
            )


def _on_levels(parts: Parts, levels: int) -> dict[str, NDArray[np.float64]]:
    """The arrays on their levels from -1 to 1; that there are at least 2 is for the dataset to say."""
    if levels < 2:
        return {what: array.astype(np.float64) for what, array in parts.items()}
    whole = [what for what, array in parts.items() if array.dtype.kind != "f"]
    floats = [what for what in parts if what not in whole]
    placed = {}
    for alike in (whole, floats):
        counted = _count_levels([parts[what] for what in alike], levels)
        for what in alike:
            placed[what] = (_counted if counted else _placed)(what, parts[what], levels)
    return {what: placed[what] for what in parts}


def _count_levels(arrays: list[NDArray[Any]], levels: int) -> bool:
    """Whether arrays of one kind hold the numbers of their levels, from 0, rather than the levels from -1 to 1.

    Integers do unless one is negative, as of 3 levels stored as -1, 0, 1; floats where all are whole, none is negative
    and one lies beyond 1, where no level is.
    """
    if not all(array.size and array.min() >= 0 for array in arrays):
        return False
    if all(array.dtype.kind != "f" for array in arrays):
        return True
    whole = all(np.all(np.isfinite(array)) and np.all(array == np.rint(array)) for array in arrays)
    return whole and any(array.max() > 1 for array in arrays)


def _counted(what: str, array: NDArray[Any], levels: int) -> NDArray[np.float64]:
    most = array.max()
    if most >= levels:
        raise ValueError(
            f"the {what} counts {levels} levels from 0 to {levels - 1}, got {most:g}; levels is one more than the "
            "largest number there can be"
        )
    return -1 + 2 * array.astype(np.float64) / (levels - 1)


def _placed(what: str, array: NDArray[Any], levels: int) -> NDArray[np.float64]:
    """The array with what its dtype's rounding has moved off a level, -1 + 2k/(K-1), set on it.

    A value computed in that dtype is off by half its epsilon, twice which is allowed. What is farther from any level
    stays where it is, for the dataset to refuse.
    """
    x, step = array.astype(np.float64), bin_width(levels)
    rounding = np.finfo(array.dtype).eps / step if array.dtype.kind == "f" else 0.0
    if rounding > PLAIN:
        raise ValueError(
            f"the {what} is {array.dtype}, which cannot tell {levels} levels apart; store it in a finer one"
        )
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite, which no comparison holds for
        k = np.rint((x + 1) / step)
        plain = (np.abs((x + 1) / step - k) <= max(rounding, 1e-3)) & (k >= 0) & (k < levels)
    return np.where(plain, -1 + 2 * k / (levels - 1), x)
