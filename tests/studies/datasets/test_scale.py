"""Continuous data at unit scale: what is refused, remarked on, and scaled, by which numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from studies.datasets import load_dataset
from studies.datasets.scale import Scale, scale_of


@pytest.fixture
def load(tmp_path):
    def load(scale="none", **arrays):
        np.savez(tmp_path / "mine.npz", **arrays)
        return load_dataset(str(tmp_path / "mine.npz"), scale=scale)

    return load


def points(count=200, dims=3, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dims))


@pytest.mark.parametrize("rule", ["standard", "minmax"])
@pytest.mark.parametrize("shape", [(60, 3), (20, 9, 2), (12, 4, 4, 3)])
def test_the_numbers_of_a_rule_are_the_training_sets_column_by_column(load, rule, shape):
    rng = np.random.default_rng(1)
    train, test = (rng.uniform(-3, 5, shape) * np.array([1.0, 1e-6, 1e6])[: shape[-1]] + 7 for _ in range(2))
    dataset = load(rule, train=train, test=test)
    for column in range(shape[-1]):
        ours, theirs = dataset.train[..., column], train[..., column]
        if rule == "standard":
            np.testing.assert_allclose([ours.mean(), ours.std()], [0, 1], atol=1e-8)
        else:
            np.testing.assert_allclose([ours.min(), ours.max()], [-1, 1], atol=1e-9)
        slope, intercept = np.polyfit(theirs.ravel(), ours.ravel(), 1)
        np.testing.assert_allclose(dataset.test[..., column], slope * test[..., column] + intercept, atol=1e-6)
    scale = dataset.scale
    assert scale.rule == rule
    np.testing.assert_allclose(dataset.train * scale.factor + scale.centre, train, rtol=1e-12)


def test_the_bits_of_a_scale_are_those_of_a_change_of_variables():
    """-log2 of the density of y = centre + factor x, against scipy's own location and scale."""
    x, centre, factor = points(50, 3), np.array([5.0, -2.0, 100.0]), np.array([0.5, 30.0, 7.0])
    y = centre + factor * x
    bits_of_x = -stats.norm.logpdf(x).sum(axis=1) / np.log(2) / 3
    bits_of_y = -stats.norm.logpdf(y, loc=centre, scale=factor).sum(axis=1) / np.log(2) / 3
    np.testing.assert_allclose(bits_of_x + Scale("standard", centre, factor).bits_per_dim, bits_of_y, rtol=1e-12)


@pytest.mark.parametrize("rule", ["standard", "minmax"])
def test_columns_that_do_not_vary_are_centred_and_named(load, rule):
    train = points()
    train[:, 1] = 0.1  # whose mean over 200 is not 0.1 to the last digit
    dataset = load(rule, train=train, test=points(seed=1))
    assert (dataset.train[:, 1] == 0).all()
    assert dataset.scale.factor[1] == 1
    assert "column 2 of 3 of the training set does not vary and is only centred" in dataset.remarks
    assert np.isfinite(dataset.scale_bits)


def test_integers_may_be_scaled(load):
    x = np.arange(-1000, 3000, 50, dtype=np.int16).reshape(40, 2)
    assert np.abs(load("minmax", train=x, test=x).train).max() == 1


def test_what_is_not_finite_is_refused_before_it_is_scaled(load):
    x = points()
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="holds 1 values that are NaN or infinite"):
        load("standard", train=x, test=x)


@pytest.mark.parametrize("size", [1e200, 1e-320])
def test_numbers_that_no_float_can_scale(size):
    with pytest.raises(ValueError, match=r"too large or too small to scale \(column 1 of 2\); give it in other"):
        scale_of("train set", np.array([[size, 1.0], [-size, 2.0]]), "standard")


def test_a_scale_is_for_continuous_data_of_a_file(load):
    with pytest.raises(ValueError, match="got --scale standard for mixture, which has its scale"):
        load_dataset("mixture", scale="standard")
    x = np.resize(np.arange(256, dtype=np.uint8), (8, 8, 8))
    with pytest.raises(ValueError, match="--scale is for continuous data, got 256 levels"):
        load("minmax", train=x, test=x)
    with pytest.raises(ValueError, match="--scale is for continuous data, got 5 levels"):
        load("minmax", train=np.tile([-1.0, 0.5], (3, 1)), test=np.tile([-1.0, 0.5], (3, 1)), levels=5)


@pytest.mark.parametrize("size", [100, 1e6, 0.001, 1e-9])
@pytest.mark.parametrize("shape", [(40, 3), (20, 6, 1), (10, 4, 4, 1)])
def test_far_from_unit_scale_is_refused(load, size, shape):
    x = size * np.random.default_rng(0).standard_normal(shape)
    with pytest.raises(
        ValueError, match=r"the train set in .* far from unit scale \(.*\); scale it with --scale standard"
    ):
        load(train=x, test=x)
    assert load("standard", train=x, test=x).train.std() == pytest.approx(1)


def test_one_column_or_one_set_far_off_is_enough(load):
    x = points()
    with pytest.raises(ValueError, match=r"train set .* \(root mean square 1e\+03 in column 2 of 3\)"):
        load(train=x * [1, 1000 / np.sqrt(np.mean(x[:, 1] ** 2)), 1], test=x)
    with pytest.raises(ValueError, match=r"test set .* far from unit scale"):
        load(train=x, test=255 * x)
    with pytest.raises(ValueError, match=r"far from unit scale"):
        load(train=x + 1000, test=x + 1000)


@pytest.mark.parametrize("size", [1, 0.3, 4])
def test_near_unit_scale_is_taken_as_it_is_without_a_word(load, size):
    x, y = size * points(), size * points(seed=1)
    dataset = load(train=x, test=y)
    assert dataset.remarks == ()
    assert np.array_equal(dataset.train, x)
    assert np.array_equal(dataset.test, y)


@pytest.mark.parametrize(
    ("train", "test", "remark"),
    [
        (10 * points(), 10 * points(), r"the train set in .* has root mean square 1\d(\.\d)? in columns 1, 2, 3 of 3"),
        (0.1 * points(), 0.1 * points(), r"standard deviation 0\.1\d* in columns 1, 2, 3 of 3, where 1 is best"),
        (points() * [1, 0.01, 1], points(), r"standard deviation 0\.0\d+ in column 2 of 3, where 1 is best"),
        (points(dims=1) / 8 + 1, points(dims=1) / 8 + 1, r"has standard deviation 0\.1\d+ in its one column"),
        (points().clip(-0.9, 0.9) / 1.8 + 0.5, points().clip(-1, 1) / 2 + 0.5,
         r"continuous data in \[0, 1\]: --scale minmax"),
        (np.arange(256).reshape(64, 4) / 255, np.arange(200).reshape(50, 4) / 255,
         r"all of them whole 255ths: bytes are"),
        (points(), points() / 2, r"train and test differ in scale: standard deviation .* and 0\.\d+"),
    ],
)  # fmt: skip
def test_what_is_modestly_off_is_remarked_on(load, train, test, remark):
    remarks = load(train=train, test=test).remarks
    assert len(remarks) >= 1
    assert any(re.search(remark, said) for said in remarks), remarks


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_data_that_do_not_vary_have_no_scale(load, value):
    x = np.full((80, 3), value)
    assert load(train=x, test=x).scale is None
