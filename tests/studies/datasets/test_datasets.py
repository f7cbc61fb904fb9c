"""Datasets are what they say: ranges, levels, fixed splits, and one line for data that no study could use."""

from __future__ import annotations

import numpy as np
import pytest

from studies.datasets import DATASETS, Dataset, dataset_label, load_dataset


@pytest.mark.parametrize("name", ["digits", "swiss_roll", "mixture"])
def test_the_split_is_fixed_and_disjoint(name):
    first, second = load_dataset(name), load_dataset(name)
    assert np.array_equal(first.train, second.train)
    assert np.array_equal(first.test, second.test)
    train = {example.tobytes() for example in first.train}
    assert not any(example.tobytes() in train for example in first.test)


def test_digits_sit_on_17_levels():
    digits = load_dataset("digits")
    assert digits.train.shape == (1437, 8, 8, 1)
    assert digits.test.shape == (360, 8, 8, 1)
    assert set(np.unique((digits.train + 1) * 8)) <= set(range(17))
    assert digits.train_labels is not None
    assert len(digits.train_labels) == 1437


def test_a_smaller_test_set_is_its_beginning():
    whole, part = load_dataset("digits"), load_dataset("digits", 50)
    assert np.array_equal(part.test, whole.test[:50])
    assert np.array_equal(part.train, whole.train)


def test_a_file_is_a_dataset(tmp_path):
    path = tmp_path / "series.npz"
    x = np.random.default_rng(0).standard_normal((12, 8, 1))
    np.savez(path, train=x[:8], test=x[8:])
    dataset = load_dataset(str(path))
    assert dataset.shape == (8, 1)
    assert dataset.levels is None
    assert dataset_label(str(path)) == "series"


def nan_in(x):
    x = x.copy()
    x[3, 1] = np.nan
    return x


GOOD = np.tile(np.linspace(-1, 1, 5), (6, 1))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": nan_in(GOOD), "test": GOOD}, "holds 1 values that are NaN or infinite"),
        ({"train": GOOD, "test": GOOD[:, :3]}, r"share one shape, got \(5,\) and \(3,\)"),
        ({"train": GOOD, "test": GOOD, "levels": 4}, r"should sit on 4 levels from -1 to 1, got -0\.5"),
        ({"train": 2 * GOOD, "test": GOOD, "levels": 5}, "should sit on 5 levels"),
        ({"train": GOOD[0], "test": GOOD}, "at least 2 examples of shape"),
        ({"train": GOOD}, "should hold arrays train and test, got train"),
    ],
)
def test_bad_data_is_one_line(tmp_path, arrays, message):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as error:
        load_dataset(str(path))
    assert "\n" not in str(error.value)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="unknown dataset 'mnist'; known: digits"):
        load_dataset("mnist")
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(ValueError, match="of plain number arrays"):
        load_dataset(str(tmp_path / "text.npz"))


def test_nothing_pickled_is_read(tmp_path):
    path = tmp_path / "pickle.npz"
    np.savez(path, train=np.array([{"a": 1}], dtype=object), test=GOOD)
    with pytest.raises(ValueError, match="of plain number arrays"):
        load_dataset(str(path))


def test_levels_are_checked_by_the_dataset_itself():
    with pytest.raises(ValueError, match="at least 2 levels"):
        Dataset("x", GOOD, GOOD, 1, "here")
    assert set(DATASETS) == {"digits", "swiss_roll", "swiss_roll_thin", "mixture", "italy_power_demand"}
