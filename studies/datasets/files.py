"""A user's own data: an .npz file with arrays `train`, `test` and, for discrete data, a number `levels`."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from core.gaussian import bin_width
from studies.datasets.dataset import Dataset

MOST_LEVELS = 2**24
"""As many as float32, which networks compute in, can tell apart in [-1, 1]."""
PLAIN = 1 / 4
"""How far, in steps from level to level, a value may lie from the level that it is taken for."""
WRITE = "write it with numpy.savez"


def load(path: Path) -> Dataset:
    """The dataset in the file; nothing pickled is read. A ValueError in one line names what is wrong with it."""
    arrays = _read(path)
    levels = _levels(path, arrays["levels"]) if "levels" in arrays else None
    train, test = (_numbers(f"{part} set in {path}", arrays[part], levels) for part in ("train", "test"))
    return Dataset(path.stem, train, test, levels, str(path.name))


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the file as they are, `train` and `test` among them."""
    try:
        stored = np.load(path, allow_pickle=False)
        if not isinstance(stored, np.ndarray):
            with stored:
                names = stored.files
                arrays = {name: np.asarray(stored[name]) for name in ("train", "test", "levels") if name in names}
    except (BadZipFile, OSError, EOFError, zlib.error, MemoryError, RuntimeError) as error:  # runtime: encrypted
        raise ValueError(f"{path} is not a readable .npz file ({error}); {WRITE}") from None
    except ValueError:
        raise ValueError(f"{path} is not an .npz file of plain number arrays; {WRITE}") from None
    if isinstance(stored, np.ndarray):
        raise ValueError(f"{path} holds one array, as an .npy file does; {WRITE}(path, train=..., test=...)")
    if not {"train", "test"} <= arrays.keys():
        raise ValueError(f"{path} should hold arrays train and test, got {', '.join(names) or 'none'}")
    return arrays


def _levels(path: Path, levels: NDArray[Any]) -> int:
    """K; that there are at least 2 is for the dataset to say."""
    count = float(levels) if levels.ndim == 0 and levels.dtype.kind in "iuf" else np.nan
    if not count.is_integer() or count > MOST_LEVELS:
        written = " ".join(str(levels).split())
        raise ValueError(
            f"levels in {path} is one whole number up to {MOST_LEVELS}, as in levels=256, got {written[:60]}; "
            "leave it out for continuous data"
        )
    return int(count)


def _numbers(what: str, array: NDArray[Any], levels: int | None) -> NDArray[np.float64]:
    """The array in float64: real numbers, each on its level where there are levels."""
    if array.dtype.kind not in "iuf":
        raise ValueError(
            f"the {what} holds real numbers, as floats or integers, got {array.dtype}; "
            "turn what it stands for into numbers first"
        )
    x = array.astype(np.float64)
    return x if levels is None or levels < 2 else _on_levels(what, x, array.dtype, levels)


def _on_levels(what: str, x: NDArray[np.float64], dtype: np.dtype[Any], levels: int) -> NDArray[np.float64]:
    """`x` with what its dtype's rounding has moved off a level, -1 + 2k/(K-1), set on it.

    A value computed in that dtype is off by half its epsilon, twice which is allowed. What is farther from any level
    stays where it is, for the dataset to refuse.
    """
    step = bin_width(levels)
    rounding = np.finfo(dtype).eps / step if dtype.kind == "f" else 0.0
    if rounding > PLAIN:
        raise ValueError(f"the {what} is {dtype}, which cannot tell {levels} levels apart; store it in a finer one")
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite, which no comparison holds for
        k = np.rint((x + 1) / step)
        plain = (np.abs((x + 1) / step - k) <= max(rounding, 1e-3)) & (k >= 0) & (k < levels)
    return np.where(plain, -1 + 2 * k / (levels - 1), x)
