"""The data of a study: one source a module, each giving a `Dataset` with a fixed train/test split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from studies.datasets import digits, files, italy_power_demand, mixture, swiss_roll
from studies.datasets.dataset import Dataset, in_words
from studies.datasets.scale import NONE

DATASETS: dict[str, Callable[[], Dataset]] = {
    "digits": digits.load,
    "swiss_roll": swiss_roll.load,
    "swiss_roll_thin": swiss_roll.load_thin,
    "mixture": mixture.load,
    "italy_power_demand": italy_power_demand.load,
}
"""Datasets by name. Any other name must be the path of an .npz file."""


def load_dataset(name: str, test_examples: int | None = None, scale: str = NONE) -> Dataset:
    """The dataset called `name`, or that of the .npz file at `name`; `test_examples` cuts the test set to its first.

    `scale`: the rule that a file's continuous data are scaled by. ValueError where it is asked for of other data.
    """
    if name in DATASETS and scale != NONE:
        raise ValueError(f"--scale is for a file of your own, got --scale {scale} for {name}, which has its scale")
    dataset = DATASETS[name]() if name in DATASETS else files.load(_npz_path(name), scale)
    return dataset if test_examples is None else dataset.with_test_examples(test_examples)


def check_dataset(name: str) -> None:
    """ValueError for a name that is neither a dataset nor a file; loads nothing."""
    if name not in DATASETS:
        _npz_path(name)


def dataset_label(name: str) -> str:
    """What rows and folders call the dataset: its name, or the file's without folder and ending."""
    check_dataset(name)
    return name if name in DATASETS else Path(name).stem


def _npz_path(name: str) -> Path:
    path = Path(name)
    if path.suffix.lower() != ".npz" or not path.is_file():
        raise ValueError(
            f"unknown dataset {name!r}; known: {', '.join(DATASETS)}, or the path of an existing .npz file"
        )
    return path


__all__ = ["DATASETS", "Dataset", "check_dataset", "dataset_label", "in_words", "load_dataset"]
