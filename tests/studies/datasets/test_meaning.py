"""What a file's numbers mean, by dtype and levels: read as anybody would, or refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from studies.datasets import Dataset, in_words, load_dataset
from studies.datasets.meaning import BYTE_LEVELS


@pytest.fixture
def load(tmp_path):
    def load(**arrays) -> Dataset:
        arrays.setdefault("test", arrays["train"])
        np.savez(tmp_path / "m.npz", **arrays)
        return load_dataset(str(tmp_path / "m.npz"))

    return load


@pytest.fixture
def refusal(load):
    def refusal(**arrays) -> str:
        with pytest.raises(ValueError) as error:  # noqa: PT011, the message is what is asked for
            load(**arrays)
        assert "\n" not in str(error.value)
        return str(error.value)

    return refusal


def pixels(*shape: int) -> np.ndarray:
    """Every byte value in turn, as uint8."""
    return np.resize(np.arange(256, dtype=np.uint8), shape)


@pytest.mark.parametrize(
    ("shape", "taken_as", "words"),
    [
        ((4, 28, 28), (28, 28, 1), "images of 28 x 28 with 1 channel, on 256 levels"),
        ((4, 28, 28, 1), (28, 28, 1), "images of 28 x 28 with 1 channel, on 256 levels"),
        ((4, 32, 32, 3), (32, 32, 3), "images of 32 x 32 with 3 channels, on 256 levels"),
        ((4, 784), (784,), "points of 784 numbers, on 256 levels"),
        ((256, 1), (1,), "points of 1 number, on 256 levels"),
    ],
)
def test_bytes_are_256_levels(load, shape, taken_as, words):
    """MNIST as everybody has it: byte k is -1 + 2k/255 to the last digit."""
    x = pixels(*shape)
    dataset = load(train=x, test=x[:3])
    assert (dataset.levels, dataset.shape) == (256, taken_as)
    assert dataset.train.ravel().tolist() == [-1 + 2 * int(k) / 255 for k in x.ravel()]
    assert dataset.test.shape == (3, *taken_as)
    assert in_words(dataset) == f"{words}, {len(x)} to train on and 3 to test"
    assert "uint8 is taken as 256 levels, 0 to 255" in dataset.remarks
    assert any("one channel" in remark for remark in dataset.remarks) == (len(shape) == 3)


def test_levels_beside_bytes_are_those_meant(load):
    dark = pixels(4, 8, 8) % 17
    assert load(train=dark, levels=17).train.max() == 1
    assert load(train=dark, levels=256).train.max() == -1 + 2 * 16 / 255
    assert load(train=dark, levels=17).shape == (8, 8, 1)


def test_bytes_that_use_few_of_256_levels_are_asked_about(load, refusal):
    """8x8 digits of 17 greys would else lie in a corner of [-1, 1]."""
    said = refusal(train=pixels(4, 8, 8, 1) % 17, test=pixels(4, 8, 8, 1) % 16)
    assert "taken as 256 levels, and reach no further than 16; add levels=17 to the file, or levels=256 where" in said
    assert load(train=pixels(4, 8, 8, 1) % 128, test=pixels(4, 8, 8, 1) % 129).levels == 256


def test_channels_are_last(refusal):
    for channels in (1, 3, 4):
        said = refusal(train=pixels(4, channels, 32, 32))
        assert f"(H, W, C), channels last, got ({channels}, 32, 32); move the channels with numpy.moveaxis" in said


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("levels", [5, 256])
def test_whole_numbers_count_the_levels_that_are_given(load, dtype, levels):
    k = np.resize(np.arange(levels), (levels, 2))
    dataset = load(train=k.astype(dtype), levels=levels)
    assert dataset.train.tolist() == [[-1 + 2 * int(one) / (levels - 1) for one in row] for row in k]


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize(
    ("values", "levels", "meant"),
    [
        ([-1, 0, 1], 3, [-1, 0, 1]),  # the levels themselves
        ([-1, 1], 2, [-1, 1]),
        ([-1, 0, 1], 5, [-1, 0, 1]),
        ([0, 1, 2], 3, [-1, 0, 1]),  # their numbers
        ([0, 1, 2], 5, [-1, -0.5, 0]),
    ],
)
def test_values_and_numbers_of_levels_are_told_apart(load, dtype, values, levels, meant):
    x = np.array(values, dtype)[:, None]
    assert load(train=x, levels=levels).train.ravel().tolist() == meant


def test_zeros_and_ones_count_two_levels_as_integers_and_are_asked_about_as_floats(load, refusal):
    x = np.array([[0], [1]])
    for dtype in ("uint8", "int64"):
        assert load(train=x.astype(dtype), levels=2).train.ravel().tolist() == [-1, 1]
    assert "should sit on 2 levels from -1 to 1, got 0; store whole numbers 0 to 1" in refusal(train=x / 1, levels=2)
    assert load(train=x / 1, levels=3).train.ravel().tolist() == [0, 1]  # on levels as they are


def test_the_sets_are_judged_together(load, refusal):
    """Train alone would be levels counted from 0; beside a -1 its 0 and 1 are the levels themselves."""
    train, test = np.array([[0], [1], [1]]), np.array([[-1], [1]])
    assert load(train=train, test=test, levels=3).train.ravel().tolist() == [0, 1, 1]
    assert "should sit on 256 levels from -1 to 1, got" in refusal(
        train=np.array([[0.0], [255.0]]), test=np.array([[-1.0], [1.0]]), levels=256
    )


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_numbers_beyond_the_last_level(refusal, part, dtype):
    x = np.arange(8, dtype=dtype).reshape(4, 2)
    beyond = x.copy()
    beyond[2, 1] = 100
    said = refusal(**{"train": x, "test": x, part: beyond, "levels": 8})
    assert f"the {part} set in " in said
    assert "counts 8 levels from 0 to 7, got 100; levels is one more than the largest number there can be" in said


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (np.array([[-1000], [3000]], "int16"), r"holds int16 from -1000 to 3000, which may be .* measurements; hav"),
        (np.array([[0], [65535]], "uint16"), "holds uint16 from 0 to 65535, which .*; add levels=65536 to the"),
        (np.array([[-1], [1]], "int8"), "holds int8 from -1 to 1, .*; have measurements scaled with --scale"),
        (np.array([[True], [False]]), "floats or integers, got bool; store 0 and 1 as uint8, with levels=2"),
        (np.array([[0], [255]], "float16"), r"far from unit scale .*, or add levels=256 to the file if these are coun"),
    ],
)  # fmt: skip
def test_what_may_mean_several_things_is_refused(load, numbers, message):
    with pytest.raises(ValueError, match=message):
        load(train=numbers)


@pytest.mark.parametrize("other", ["int64", "float32"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_one_set_in_bytes_and_the_other_not(load, other, part):
    """As where only one of them was scaled."""
    x = pixels(4, 8, 8, 1)
    both = {"train": x, "test": x, part: (x / 255).astype(other)}
    with pytest.raises(
        ValueError, match=rf"alike in what their numbers mean, got .*{other} in the {part} set in .*m.npz"
    ):
        load(**both)


def test_arrays_that_are_not_used_are_named(load):
    dataset = load(train=pixels(4, 8, 8), y_train=np.arange(4), labels=np.arange(4))
    assert "arrays of the file that are not used: y_train, labels" in dataset.remarks


def test_a_byte_is_as_many_levels_as_it_has():
    assert np.iinfo(np.uint8).max + 1 == BYTE_LEVELS
