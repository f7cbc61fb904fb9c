"""Which data a run is of: a digest of the arrays, recorded with real examples for the report's pictures.

Cells are compared within a seed and seeds with each other, which holds for one dataset alone. So whatever opens a run's
data again, for further cells, resumed ones or further measurements, is told where they are not what they were. Runs
from before digests were recorded go on without.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from studies.datasets import DATASETS, Dataset, load_dataset
from studies.store.files import read_arrays, write_arrays
from studies.store.folder import RunFolder

REFERENCE_EXAMPLES = 256


def digest_of(name: str, dataset: Dataset) -> str:
    """SHA-256 of levels, shapes, scale and numbers: of a file's as they are, of a built-in dataset's in float32.

    Those are computed anew each time, and processors differ in the last digits.
    """
    precision = np.float32 if name in DATASETS else np.float64
    digest = hashlib.sha256(repr((dataset.levels, dataset.train.shape, dataset.test.shape)).encode())
    for array in (dataset.train, dataset.test):
        digest.update(np.ascontiguousarray(array, precision).data)
    if dataset.scale is not None:  # the same numbers in other units have other likelihoods
        digest.update(np.concatenate([dataset.scale.centre, dataset.scale.factor]).data)
    return digest.hexdigest()


def record_data(run: Path, name: str, dataset: Dataset) -> None:
    """Writes the run's `reference`, unless it is there."""
    path = RunFolder(run).reference
    if not path.is_file():
        parts = {"train": dataset.train, "test": dataset.test}
        examples = {part: x[:REFERENCE_EXAMPLES].astype(np.float32) for part, x in parts.items()}
        write_arrays(path, {**examples, **_scale_arrays(dataset), "digest": np.array(digest_of(name, dataset))})


def _scale_arrays(dataset: Dataset) -> dict[str, np.ndarray]:
    """How to bring the run's examples and samples back to the units of the file: x * factor + centre."""
    scale = dataset.scale
    return {} if scale is None else {"scale_centre": scale.centre, "scale_factor": scale.factor}


def check_data(run: Path, name: str, dataset: Dataset) -> None:
    """ValueError where the run, if there is one, was begun with other data."""
    path = RunFolder(run).reference
    recorded = read_arrays(path)
    if "digest" not in recorded:
        return
    there = str(recorded["digest"])
    if there != (now := digest_of(name, dataset)):
        raise ValueError(
            f"{run} was begun with other data than {name} holds now (digest {there[:12]} there, {now[:12]} now); "
            "restore the data, or begin a new run with --out"
        )


def dataset_of(run: Path, name: str, test_examples: int | None, scale: str) -> Dataset:
    """The dataset of a run, opened again and scaled as there. ValueError where it is not what it was."""
    dataset = load_dataset(name, test_examples, scale)
    check_data(run, name, dataset)
    return dataset
