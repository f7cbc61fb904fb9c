"""A user's own data: an .npz file with arrays `train`, `test` and, for discrete data, a number `levels`."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from studies.datasets.dataset import Dataset


def load(path: Path) -> Dataset:
    """The dataset in the file; nothing pickled is read."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = {"train", "test"} - set(arrays.files)
            if missing:
                raise ValueError(f"{path} should hold arrays train and test, got {', '.join(arrays.files) or 'none'}")
            train, test = (np.asarray(arrays[part], np.float64) for part in ("train", "test"))
            levels = int(arrays["levels"]) if "levels" in arrays.files else None
    except (BadZipFile, OSError) as error:
        raise ValueError(f"{path} is not a readable .npz file ({error}); write it with numpy.savez") from None
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise ValueError(f"{path} is not an .npz file of plain number arrays; write it with numpy.savez") from None
    return Dataset(path.stem, train, test, levels, str(path.name))
