"""Continuous data of a file, held to unit scale: scaled by a rule, or refused where they are far from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from studies.datasets.dataset import Dataset
from studies.datasets.scale import NONE, columns_of, named, scale_of

FAR, MODEST = 50.0, 5.0
"""How many times larger or smaller than 1 the scale of data is refused, and remarked on.

At 50 the prior term of linear noise in 1000 steps, alpha_bar_T / 2 times the mean square, is 0.07 bits/dim; at 1/50 the
first step's noise is half as large as the data.
"""
APART = 1.75
"""How many times wider one set than the other is remarked on: [-1, 1] is twice as wide as [0, 1]."""
ENOUGH = 100
"""Numbers in a set, at least, for its width to say anything."""


def on_unit_scale(dataset: Dataset, path: str, rule: str) -> Dataset:
    """Continuous data by the rule called `rule`; by none as they are. A ValueError in one line for data far off."""
    if rule == NONE:
        advice = f"scale it with --scale standard or minmax{_or_levels(dataset)}"
        sizes = [_check_size(f"{part} set in {path}", x, advice) for part, x in _parts(dataset).items()]
        spread = _check_spread(f"train set in {path}", dataset.train, advice)
        more = [*sizes, spread, _from_0_to_1(dataset), _apart(dataset)]
        return replace(dataset, remarks=(*dataset.remarks, *filter(None, more)))
    scale = scale_of(f"train set in {path}", dataset.train, rule)
    more = [_unvarying(dataset.train), _apart(dataset)]
    return replace(
        dataset,
        train=scale.scaled(dataset.train),
        test=scale.scaled(dataset.test),
        scale=scale,
        remarks=(*dataset.remarks, *filter(None, more)),
    )


def _check_size(what: str, x: NDArray[np.float64], advice: str) -> str:
    """A remark where a column of `x` (N, ..., C), finite, is large; a ValueError in one line where it is far too large.

    Large is the root mean square, about 0: what is left of it at t = T costs bits and shifts samples.
    """
    with np.errstate(over="ignore"):
        size = np.sqrt(np.mean(columns_of(x) ** 2, axis=0))
    if np.any(size > FAR):
        raise ValueError(
            f"the {what} is far from unit scale (root mean square {size.max():.3g} in {named(size == size.max())}); "
            f"{advice}"
        )
    if np.any(size > MODEST):
        return f"the {what} has root mean square {size.max():.3g} in {named(size > MODEST)}, where 1 is best: {advice}"
    return ""


def _check_spread(what: str, x: NDArray[np.float64], advice: str) -> str:
    """The same where columns vary little: the noise of the first steps hides what lies below its size.

    A ValueError only where all do, for rare columns may be 0 but for a few examples; what does not vary at all has no
    scale.
    """
    columns = columns_of(x)
    varies = columns.min(axis=0) < columns.max(axis=0)
    if not np.any(varies):
        return ""
    spread = np.std(columns, axis=0)
    if spread.max() < 1 / FAR:
        raise ValueError(
            f"the {what} is far from unit scale (standard deviation {spread.max():.3g}, less than the noise of the "
            f"first steps); {advice}"
        )
    small = varies & (spread < 1 / (MODEST if spread.max() < 1 / MODEST else FAR))
    if np.any(small):
        most = spread[small].max()
        return f"the {what} has standard deviation {most:.3g} in {named(small)}, where 1 is best: {advice}"
    return ""


def _parts(dataset: Dataset) -> dict[str, NDArray[np.float64]]:
    return {"train": dataset.train, "test": dataset.test}


def _or_levels(dataset: Dataset) -> str:
    """What else to do with whole numbers, which may count levels."""
    parts = list(_parts(dataset).values())
    most = max(float(x.max()) for x in parts)
    if most >= 2**24 or not all(x.min() >= 0 and np.all(x == np.rint(x)) for x in parts):
        return ""
    return f", or add levels={int(most) + 1} to the file if these are counted from 0"


def _unvarying(train: NDArray[np.float64]) -> str:
    columns = columns_of(train)
    still = columns.min(axis=0) == columns.max(axis=0)
    return f"{named(still)} of the training set does not vary and is only centred" if np.any(still) else ""


def _from_0_to_1(dataset: Dataset) -> str:
    """A remark on images (or whatever) in [0, 1], as frameworks give them, and on bytes divided by 255."""
    parts = _parts(dataset).values()
    if not all(x.min() >= 0 and x.max() <= 1 for x in parts):
        return ""
    if all(np.all(np.abs(255 * x - np.rint(255 * x)) < 1e-2) for x in parts):
        return "continuous data in [0, 1], all of them whole 255ths: bytes are stored as uint8, to have 256 levels"
    return "continuous data in [0, 1]: --scale minmax brings them to [-1, 1]"


def _apart(dataset: Dataset) -> str:
    """A remark where one set is much wider than the other, as where one of them was scaled."""
    if min(dataset.train.size, dataset.test.size) < ENOUGH:
        return ""
    train, test = (float(np.sqrt(np.mean(np.var(columns_of(x), axis=0)))) for x in _parts(dataset).values())
    if max(train, test) <= APART * min(train, test):
        return ""
    return f"train and test differ in scale: standard deviation {train:.3g} and {test:.3g}"
