"""The digest of a run's data: what changes it, and what does not."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from studies.datasets import Dataset, load_dataset
from studies.datasets.scale import Scale
from studies.store.data import digest_of

POINTS = Dataset("mine", np.array([[-1.0, 0.5], [0.5, 1.0]]), np.array([[0.5, 0.5], [-1.0, 1.0]]), None, "mine.npz")


def test_the_digest_is_of_levels_shapes_and_numbers():
    numbers = np.array([-1.0, 0.5, 0.5, 1.0, 0.5, 0.5, -1.0, 1.0], "<f8").tobytes()
    expected = hashlib.sha256(b"(None, (2, 2), (2, 2))" + numbers).hexdigest()
    assert digest_of("folder/mine.npz", POINTS) == expected
    others = [
        replace(POINTS, levels=5),
        replace(POINTS, test=POINTS.test[::-1]),
        replace(POINTS, train=POINTS.test, test=POINTS.train),
        replace(POINTS, train=POINTS.train.reshape(1, 4).repeat(2, 0), test=POINTS.test.reshape(1, 4).repeat(2, 0)),
        replace(POINTS, train=POINTS.train + 1e-15),
        *(replace(POINTS, scale=Scale("standard", np.zeros(2), factor)) for factor in (np.ones(2), 2 * np.ones(2))),
    ]
    assert len({digest_of("folder/mine.npz", data) for data in [POINTS, *others]}) == 8


def test_it_does_not_depend_on_where_the_file_is_or_how_it_is_laid_out():
    columns = replace(POINTS, train=np.asfortranarray(POINTS.train), name="yours", source="yours.npz")
    assert digest_of("yours.npz", columns) == digest_of("folder/mine.npz", POINTS)


def test_another_processors_last_digits_are_the_same_built_in_data():
    roll = load_dataset("swiss_roll")
    elsewhere = replace(roll, train=np.nextafter(roll.train, np.inf))
    assert digest_of("swiss_roll", elsewhere) == digest_of("swiss_roll", roll)
    assert digest_of("swiss_roll", replace(roll, train=roll.train + 1e-6)) != digest_of("swiss_roll", roll)
