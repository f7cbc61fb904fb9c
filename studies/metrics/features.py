"""A feature space learned from the data set: two layers of a small network, trained from a recorded seed.

With labels the network classifies, as Inception does for FID; without, it reconstructs its input through a
narrow layer. The layers are kept as arrays, so a space can be stored, and transforms without scikit-learn.
Distances in it compare only with distances in the *same* space: same training set, labels, width, epochs and
seed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.metrics.points import FloatArray, as_points

SMALLEST_SPREAD = 0.1
FIRST_LAYER = 64  # enough for 8x8 digits and points; wider did not change the order of models there


@dataclass(frozen=True, eq=False)
class Layer:
    """h -> max(h @ weight + bias, 0): weight (in, out), bias (out,)."""

    weight: FloatArray
    bias: FloatArray

    def __call__(self, values: FloatArray) -> FloatArray:
        activated: FloatArray = np.maximum(values @ self.weight + self.bias, 0)
        return activated


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """phi: (N, ...) -> (N, width), with mean 0 and total variance 1 over the set that taught it.

    `kind`, `seed`, `epochs` (used), `converged` (before the limit of epochs) and `training_loss` are what a
    report should print.
    """

    kind: Literal["classifier", "autoencoder"]
    seed: int
    epochs: int
    converged: bool
    training_loss: float
    centre: FloatArray
    spread: FloatArray
    layers: tuple[Layer, ...]
    feature_mean: FloatArray
    feature_scale: float

    def transform(self, values: ArrayLike) -> FloatArray:
        """phi(values): (N, ...) -> (N, width) float64; ValueError when rows are not the size of the training rows."""
        points = as_points("values", values, least=1)
        if points.shape[1] != self.centre.size:
            raise ValueError(
                f"values: expected {self.centre.size} values in each row, as in training, got {points.shape[1]}; "
                "learn a space from this data set"
            )
        return (self._activations(points) - self.feature_mean) / self.feature_scale

    def _activations(self, points: FloatArray) -> FloatArray:
        return _activations(self.layers, (points - self.centre) / self.spread)


def learn_features(
    train: ArrayLike, labels: ArrayLike | None = None, *, width: int = 32, max_epochs: int = 100, seed: int = 0
) -> FeatureSpace:
    """phi learned from `train` (N, ...): a classifier's hidden layer given `labels` (N,), else an autoencoder's.

    Deterministic given its arguments. Raises ValueError for labels of another length or of a single class,
    for one point repeated, and for features that come out constant.
    """
    points = as_points("train", train, least=10)
    if width < 1 or max_epochs < 1:
        raise ValueError(f"width and max_epochs: expected at least 1, got {width} and {max_epochs}")
    classes = None if labels is None else _checked_labels(labels, len(points))
    if not np.ptp(points, axis=0).any():
        raise ValueError("train: expected points that differ, got one point repeated; pass the training set")
    centre, spread = points.mean(axis=0), _spread(points)
    if not np.all((spread > 0) & np.isfinite(spread)):
        raise ValueError(
            f"train: expected variances that float64 holds, got {np.square(spread).min():.3g} to"
            f" {np.square(spread).max():.3g}; rescale the points"
        )
    network, converged = _fit((points - centre) / spread, classes, width, max_epochs, seed)
    layers = tuple(Layer(w, b) for w, b in zip(network.coefs_[:2], network.intercepts_[:2], strict=True))
    activations = _activations(layers, (points - centre) / spread)
    total_variance = float(activations.var(axis=0).sum())
    # Of equal features the variance is that of rounding, which must not be scaled up to 1.
    if total_variance <= float(np.mean(activations**2, axis=0).sum()) * (64 * np.finfo(np.float64).eps) ** 2:
        raise ValueError("train: expected features that vary, got the same for every point; use another seed or width")
    return FeatureSpace(
        kind="autoencoder" if classes is None else "classifier",
        seed=seed,
        epochs=int(network.n_iter_),
        converged=converged,
        training_loss=float(network.loss_),
        centre=centre,
        spread=spread,
        layers=layers,
        feature_mean=activations.mean(axis=0),
        feature_scale=float(np.sqrt(total_variance)),
    )


def _activations(layers: tuple[Layer, ...], values: FloatArray) -> FloatArray:
    for layer in layers:
        values = layer(values)
    return values


def _spread(points: FloatArray) -> FloatArray:
    """The deviation of each value, but at least a tenth of their root mean square.

    A pixel that hardly ever changes would otherwise be magnified until it drowned the rest.
    """
    deviations = points.std(axis=0)
    spread: FloatArray = np.maximum(deviations, SMALLEST_SPREAD * np.sqrt(np.mean(deviations**2)))
    return spread


def _checked_labels(labels: ArrayLike, count: int) -> NDArray[Any]:
    classes = np.asarray(labels)
    if classes.shape != (count,):
        raise ValueError(
            f"labels: expected one for each of {count} training rows, got shape {classes.shape}; "
            "pass the labels of train"
        )
    if len(np.unique(classes)) < 2:
        raise ValueError("labels: expected at least two classes, got one; pass labels=None to learn an autoencoder")
    return classes


def _fit(inputs: FloatArray, classes: NDArray[Any] | None, width: int, max_epochs: int, seed: int) -> tuple[Any, bool]:
    """The trained scikit-learn network, and whether its loss settled within `max_epochs`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    settings: dict[str, Any] = {"activation": "relu", "max_iter": max_epochs, "random_state": seed}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        if classes is None:
            target = inputs[:, 0] if inputs.shape[1] == 1 else inputs
            network = MLPRegressor(hidden_layer_sizes=(FIRST_LAYER, width, FIRST_LAYER), **settings).fit(inputs, target)
        else:
            network = MLPClassifier(hidden_layer_sizes=(FIRST_LAYER, width), **settings).fit(inputs, classes)
    return network, not any(issubclass(w.category, ConvergenceWarning) for w in caught)
