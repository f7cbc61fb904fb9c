"""A user's own data: an .npz file with arrays `train`, `test` and, for data on levels, their number `levels`."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from studies.datasets.dataset import Dataset
from studies.datasets.meaning import meaning_of
from studies.datasets.scale import NONE
from studies.datasets.unit_scale import on_unit_scale

MOST_LEVELS = 2**24
"""As many as float32, which networks compute in, can tell apart in [-1, 1]."""
WRITE = "write it with numpy.savez"


def load(path: Path, rule: str = NONE) -> Dataset:
    """The dataset in the file, continuous data scaled by a rule's name; nothing pickled is read.

    A ValueError in one line names what is wrong with it.
    """
    arrays, unused = _read(path)
    levels = _levels(path, arrays["levels"]) if "levels" in arrays else None
    parts = {f"{part} set in {path}": arrays[part] for part in ("train", "test")}
    numbers = meaning_of(parts, levels, scaled=rule != NONE)
    train, test = numbers.parts.values()
    also = (f"arrays of the file that are not used: {', '.join(unused)}",) if unused else ()
    dataset = Dataset(path.stem, train, test, numbers.levels, path.name, remarks=(*numbers.remarks, *also))
    return dataset if numbers.levels is not None else on_unit_scale(dataset, str(path), rule)


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays of the file as they are, `train` and `test` among them, and the names of those that are not used."""
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
    return arrays, [name for name in names if name not in arrays]


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
