"""The learned feature space: what it promises about its output, its seed and its use."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import studies.metrics
from studies.metrics.features import learn_features
from studies.metrics.frechet import feature_frechet, frechet_distance


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return (data.data / 8 - 1).reshape(-1, 8, 8, 1), data.target


@pytest.fixture(scope="module")
def spaces(digits):
    images, labels = digits
    return {
        "classifier": learn_features(images[:900], labels[:900], seed=3),
        "autoencoder": learn_features(images[:900], seed=3),
    }


@pytest.mark.parametrize("kind", ["classifier", "autoencoder"])
def test_features_are_standardised_on_train(digits, spaces, kind):
    """Mean 0 and total variance 1 over the set that taught the space; the settings are recorded."""
    images, _ = digits
    space = spaces[kind]
    features = space.transform(images[:900])
    assert features.shape == (900, 32)
    assert features.mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert features.var(axis=0).sum() == pytest.approx(1, rel=1e-12)
    assert (space.kind, space.seed) == (kind, 3)
    assert 1 <= space.epochs <= 100
    assert np.isfinite(space.training_loss)


def test_classes_are_linear_in_the_classifiers_features(digits, spaces):
    """New digits are classified from the features better than 90 %: the space has learned what they are."""
    images, labels = digits
    features = spaces["classifier"].transform(images)
    model = LogisticRegression(C=1000, max_iter=1000).fit(features[:900], labels[:900])
    assert model.score(features[900:], labels[900:]) > 0.9


@pytest.mark.parametrize("kind", ["classifier", "autoencoder"])
def test_distance_orders_corruptions(digits, spaces, kind):
    """Held-out digits, digits with noise 0.2 and with noise 0.6 are ever farther from digits."""
    images, _ = digits
    rng = np.random.default_rng(0)
    noise = rng.normal(size=images[:400].shape)
    distances = [feature_frechet(images[900:1300] + s * noise, images[1300:], spaces[kind]) for s in (0, 0.2, 0.6)]
    assert distances == sorted(distances)
    assert distances[2] > 3 * distances[0]


def test_feature_distance_is_the_distance_of_features(digits, spaces):
    images, _ = digits
    space = spaces["autoencoder"]
    by_hand = frechet_distance(space.transform(images[:300]), space.transform(images[300:900]))
    assert feature_frechet(images[:300], images[300:900], space) == by_hand


def test_one_seed_one_space(digits):
    images, labels = digits
    first, again, other = (learn_features(images[:200], labels[:200], seed=s, max_epochs=5) for s in (0, 0, 1))
    assert np.array_equal(first.transform(images), again.transform(images))
    assert not np.array_equal(first.transform(images), other.transform(images))
    assert not first.converged


def test_a_value_that_hardly_changes_is_not_magnified():
    """A column 1e-6 as wide as the rest, moved by 1e-3, moves features by the same order: a thousandth."""
    points = np.random.default_rng(1).normal(size=(100, 4)) * [1, 1, 1, 1e-6]
    space = learn_features(points, max_epochs=5)
    moved = np.abs(space.transform(points + np.array([0, 0, 0, 1e-3])) - space.transform(points))
    assert 0 < moved.max() < 0.02


def test_points_of_one_value():
    space = learn_features(np.random.default_rng(0).normal(size=(50, 1)), max_epochs=5)
    assert space.transform([[0.0]]).shape == (1, 32)


def test_bad_input(digits):
    images, labels = digits
    with pytest.raises(ValueError, match="one for each of 50 training rows"):
        learn_features(images[:50], labels[:49])
    with pytest.raises(ValueError, match="at least two classes"):
        learn_features(images[:50], np.zeros(50))
    with pytest.raises(ValueError, match="points that differ"):
        learn_features(np.ones((50, 3)), max_epochs=1)
    with pytest.raises(ValueError, match="width and max_epochs"):
        learn_features(images[:50], width=0)
    space = learn_features(images[:50], max_epochs=1)
    with pytest.raises(ValueError, match="expected 64 values in each row, as in training, got 3"):
        space.transform(np.zeros((2, 3)))


def test_import_is_light():
    """`import studies.metrics` loads none of the packages that only some metrics need."""
    heavy = "{'sklearn', 'ot', 'pandas', 'torch', 'torch_fidelity', 'tensorflow', 'scipy.stats'}"
    script = f"import sys, studies.metrics; found = {heavy} & set(sys.modules); assert not found, found"
    root = Path(studies.metrics.__file__).parents[2]
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root, timeout=60)
