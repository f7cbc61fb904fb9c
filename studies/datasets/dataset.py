"""What a dataset is to a study: arrays, channels last, in [-1, 1] on K levels or continuous near unit scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.gaussian import bin_width
from core.oracles import Density, Distribution, EmpiricalDistribution
from studies.datasets.scale import Scale


@dataclass(frozen=True, eq=False)
class Dataset:
    """`train` (N, ...), `test` (M, ...) float64; `levels` K, or None for continuous data; labels (N,), (M,) if known.

    On K levels every value is -1 + 2k/(K-1). `truth` is the density that both sets were drawn from, where it is known.
    `scale` leads back to the units of the file, where the arrays were scaled. `remarks`: what was made of a file, for
    whoever starts a study of it. A ValueError in one line names what is wrong with an array.
    """

    name: str
    train: NDArray[np.float64]
    test: NDArray[np.float64]
    levels: int | None
    source: str
    train_labels: NDArray[np.int64] | None = None
    test_labels: NDArray[np.int64] | None = None
    truth: Density | None = None
    scale: Scale | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part, array in (("train", self.train), ("test", self.test)):
            _check(f"{part} set of {self.name}", array, self.levels)
        if self.train.shape[1:] != self.test.shape[1:]:
            raise ValueError(
                f"train and test examples of {self.name} share one shape, "
                f"got {self.train.shape[1:]} and {self.test.shape[1:]}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.train.shape[1:]

    @property
    def dims(self) -> int:
        return int(np.prod(self.shape))

    @property
    def scale_bits(self) -> float:
        """How many bits per dim a likelihood of the arrays lies below that of the file's own numbers: 0 if unscaled."""
        return 0.0 if self.scale is None else self.scale.bits_per_dim

    def oracle(self) -> Distribution:
        """The density that the data are drawn from, or the training set itself where that is unknown."""
        return EmpiricalDistribution(self.train) if self.truth is None else self.truth

    def with_test_examples(self, count: int) -> Dataset:
        """The same data with only the first `count` test examples."""
        labels = None if self.test_labels is None else self.test_labels[:count]
        return replace(self, test=self.test[:count], test_labels=labels)


def in_words(dataset: Dataset) -> str:
    """What the data were taken for, in one line."""
    *lengths, last = dataset.shape
    channels = f"{last} channel{'s' if last > 1 else ''}"
    kind = {
        0: f"points of {last} {'number' if last == 1 else 'numbers'}",
        1: f"series of length {' '.join(map(str, lengths))} with {channels}",
        2: f"images of {' x '.join(map(str, lengths))} with {channels}",
    }[len(lengths)]
    values = "continuous" if dataset.levels is None else f"on {dataset.levels} levels"
    return f"{kind}, {values}, {len(dataset.train)} to train on and {len(dataset.test)} to test"


def _check(what: str, array: NDArray[np.float64], levels: int | None) -> None:
    if array.ndim < 2 or array.ndim > 4 or len(array) < 2:
        raise ValueError(
            f"the {what} has at least 2 examples of shape (D,), (L, C) or (H, W, C), "
            f"got an array of shape {array.shape}"
        )
    if array.size == 0:
        raise ValueError(
            f"the examples of the {what} hold numbers, got an array of shape {array.shape}, which has none"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(
            f"the {what} holds {np.sum(~np.isfinite(array))} values that are NaN or infinite; clean it first"
        )
    if levels is None:
        return
    index = (array + 1) / bin_width(levels)
    wrong = np.abs(index - np.rint(index)) > 1e-3
    if np.any(wrong) or np.any(np.abs(array) > 1 + 1e-6):
        raise ValueError(
            f"the {what} should sit on {levels} levels from -1 to 1, "
            f"got {array[wrong].flat[0] if np.any(wrong) else array.flat[np.abs(array).argmax()]:g}; "
            f"store whole numbers 0 to {levels - 1}, or leave levels out for continuous data"
        )
