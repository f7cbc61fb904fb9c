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


DAYS = np.datetime64("2020-01-01") + np.arange(6).reshape(6, 1)


@pytest.mark.parametrize(
    ("numbers", "dtype"),
    [
        (DAYS, r"datetime64\[D\]"),
        (DAYS - DAYS[0], r"timedelta64\[D\]"),
        (GOOD + 0j, "complex128"),
        (GOOD > 0, "bool"),
        (GOOD.astype("U4"), "<U4"),
        (GOOD.astype("S4"), r"\|S4"),
        (np.zeros((6, 1), [("a", "f8")]), r"\[\('a', '<f8'\)\]"),
    ],
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_what_is_no_real_number_is_refused(tmp_path, numbers, dtype, part):
    """Whatever numpy would make of it: days since 1970, the real part, 0 and 1, numbers written as words."""
    path = tmp_path / "bad.npz"
    np.savez(path, **{"train": GOOD, "test": GOOD, part: numbers})
    with pytest.raises(
        ValueError, match=rf"the {part} set in .*bad.npz holds real numbers, .* got {dtype}; (turn|store 0)"
    ):
        load_dataset(str(path))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", ">f4"])
def test_every_kind_of_float_is_read(tmp_path, dtype):
    path = tmp_path / "good.npz"
    numbers = np.arange(12).reshape(6, 2) / 4
    np.savez(path, train=numbers.astype(dtype), test=numbers)
    dataset = load_dataset(str(path))
    assert dataset.train.dtype == np.float64
    assert dataset.train.tolist() == numbers.tolist()
    assert (dataset.levels, dataset.scale) == (None, None)


@pytest.mark.parametrize(
    ("levels", "shown"),
    [
        (2.5, r"2\.5"), (np.inf, "inf"), (np.nan, "nan"), ([256], r"\[256\]"), ([5, 5], r"\[5 5\]"), ("5", "5"),
        (True, "True"), (5 + 0j, r"\(5\+0j\)"), (np.datetime64(5, "D"), "1970-01-06"), (1e300, r"1e\+300"),
        (np.arange(99), r"\[ 0 1 2 [ 0-9]* 21 22"),
    ],
)  # fmt: skip
def test_levels_are_one_whole_number(tmp_path, levels, shown):
    path = tmp_path / "bad.npz"
    np.savez(path, train=GOOD, test=GOOD, levels=levels)
    with pytest.raises(ValueError, match=f"levels in .*bad.npz is one whole number up to 16777216, .* got {shown}; le"):
        load_dataset(str(path))


@pytest.mark.parametrize("levels", [5, 5.0, np.uint8(5), np.float16(5)])
def test_whole_numbers_of_levels(tmp_path, levels):
    path = tmp_path / "good.npz"
    np.savez(path, train=GOOD, test=GOOD, levels=levels)
    assert load_dataset(str(path)).levels == 5


def scaled(pixels, dtype):
    """In every way that people bring 0..K-1 to -1..1, computed in `dtype`; K is 256 here."""
    x = pixels.astype(dtype)
    one, two, most = dtype(1), dtype(2), dtype(255)
    return {
        "exactly, then rounded": (pixels / 127.5 - 1).astype(dtype),
        "by the half": x / dtype(127.5) - one,
        "to [0, 1] first": x / most * two - one,
        "as normalised images": (x / most - dtype(0.5)) / dtype(0.5),
        "from the middle": (x - dtype(127.5)) / dtype(127.5),
    }


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("how", scaled(np.zeros(1), np.float32))
def test_values_are_set_on_the_level_that_their_dtype_rounded_them_from(tmp_path, dtype, how):
    """In float16 up to 0.06 of a step from it; each is the level itself, to the last digit."""
    pixels = np.arange(256).reshape(64, 4)
    np.savez(tmp_path / "eight_bits.npz", train=scaled(pixels, dtype)[how], test=scaled(pixels, dtype)[how], levels=256)
    dataset = load_dataset(str(tmp_path / "eight_bits.npz"))
    for part in (dataset.train, dataset.test):
        assert part.tolist() == [[-1 + 2 * k / 255 for k in example] for example in pixels.tolist()]


@pytest.mark.parametrize(("dtype", "levels"), [("float16", 520), ("float16", 1024), ("float32", 2**23)])
def test_levels_that_a_dtype_cannot_tell_apart(tmp_path, dtype, levels):
    x = np.linspace(-1, 1, 8).reshape(4, 2).astype(dtype)
    np.savez(tmp_path / "coarse.npz", train=x, test=x, levels=levels)
    with pytest.raises(ValueError, match=f"coarse.npz is {dtype}, which cannot tell {levels} levels apart; store it"):
        load_dataset(str(tmp_path / "coarse.npz"))


@pytest.mark.parametrize(("dtype", "off"), [("float16", 0.3), ("float16", 0.16), ("float32", 0.01), ("float64", 0.002)])
def test_what_lies_farther_off_than_rounding_is_refused(tmp_path, dtype, off):
    x = (np.arange(8).reshape(4, 2) + 124 + off) / 127.5 - 1  # where float16 is fine
    np.savez(tmp_path / "between.npz", train=x.astype(dtype), test=x.astype(dtype), levels=256)
    with pytest.raises(ValueError, match="should sit on 256 levels from -1 to 1"):
        load_dataset(str(tmp_path / "between.npz"))


@pytest.mark.parametrize("value", [1 + 2 / 255, -1 - 2 / 255, np.inf, np.nan])
def test_what_lies_outside_is_refused_at_any_precision(tmp_path, value):
    x = np.full((4, 2), 1.0, np.float16)
    x[2, 1] = value
    np.savez(tmp_path / "outside.npz", train=x, test=x, levels=256)
    with pytest.raises(ValueError, match=r"should sit on 256 levels|1 values that are NaN or infinite"):
        load_dataset(str(tmp_path / "outside.npz"))


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
