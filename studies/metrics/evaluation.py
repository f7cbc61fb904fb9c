"""Every metric beside its floor: the same metric, at the same sizes, of real data that no model made.

A metric of finitely many samples is not at its ideal even for a perfect model. The floor is what a perfect
model would get: points held out of train stand in for the samples. Value and floor share N, M, the reference,
the feature space and every seed.

A metric that the points at hand do not define, because they are too few or hardly vary, is a blank: its value is NaN
and the reason is beside it. The others are what they are without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.metrics.comparison import Comparison
from studies.metrics.features import FeatureSpace, learn_features
from studies.metrics.points import FloatArray, NonConvergence, as_points, same_space
from studies.metrics.registry import Metric, chosen

LEAST = 20  # samples worth scoring, and the least `limit`: of fewer, every metric is mostly bias
LIMIT = 2000  # the exact Wasserstein distance and the two-sample test take seconds there, and grow with the cube


def evaluate(
    samples: ArrayLike,
    train: ArrayLike,
    test: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    seed: int = 0,
    names: Iterable[str] | None = None,
    limit: int | None = LIMIT,
    space: FeatureSpace | None = None,
) -> list[dict[str, Any]]:
    """One row a metric: metric, value, floor, and why either is a blank; unit, direction, ideal, sizes, seed.

    Samples (n, ...), train (L, ...) with `labels` (L,) or None, test (m, ...), any signal. `names` None means
    every metric that needs nothing but these. The reference is test, cut at random to M = min(m, limit); the
    samples are cut to N = min(n, L // 2, limit), as many as can be held out of train for the floor;
    `n_samples` and `n_reference` report N and M. Train is split in halves by `seed`: one lends the floor its
    N points, the other teaches the feature space (unless `space` is given) and is the training set of the
    floor's memorisation test; the samples' own memorisation test searches all of train. Rows compare only at
    one seed, N and M.

    A value or floor that the points do not define is NaN, with the reason in `why_no_value` or `why_no_floor`, which
    are otherwise empty. ValueError for what is no set of points: NaN among them, or rows of different sizes.
    """
    metrics = chosen(names)
    generated, seen, unseen = _checked(samples, train, test)
    parts = _split(len(generated), len(seen), len(unseen), limit, seed)
    rest_labels = None if labels is None else _labels_of(labels, len(seen))[parts.rest]
    learn_space = _lazily(space, seen[parts.rest], rest_labels, seed)
    reference = unseen[parts.reference]
    value = Comparison(generated[parts.samples], reference, seen, learn_space, seed)
    floor = Comparison(seen[parts.held_out], reference, seen[parts.rest], learn_space, seed)
    rows = []
    for metric in metrics:
        (of_samples, why_no_value), (of_real, why_no_floor) = (_computed(metric, each) for each in (value, floor))
        rows.append(
            {
                "metric": metric.name,
                "value": of_samples,
                "floor": of_real,
                "why_no_value": why_no_value,
                "why_no_floor": why_no_floor,
                "unit": metric.unit,
                "direction": metric.direction,
                "ideal": metric.ideal,
                "n_samples": len(value.samples),
                "n_reference": len(reference),
                "seed": seed,
            }
        )
    return rows


def _computed(metric: Metric, comparison: Comparison) -> tuple[float, str]:
    """The metric and "", or NaN and why these points do not define it: the one place where a metric becomes a blank.

    A solver that does not converge is a reason too. Something missing, a package or a file, is not.
    """
    if min(len(comparison.samples), len(comparison.reference)) < metric.least:
        return math.nan, (
            f"needs at least {metric.least} points on either side, got {len(comparison.samples)} and"
            f" {len(comparison.reference)}"
        )
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            value = float(metric.function(comparison))
    except (ValueError, ArithmeticError, NonConvergence) as error:
        return math.nan, str(error).split("\n")[0]
    return (value, "") if math.isfinite(value) else (math.nan, f"comes out as {value} for these points")


@dataclass(frozen=True, eq=False)
class _Parts:
    """Which rows go where: of samples, of test, and of train (held out for the floor, and the rest)."""

    samples: NDArray[np.int64]
    reference: NDArray[np.int64]
    held_out: NDArray[np.int64]
    rest: NDArray[np.int64]


def _split(n_samples: int, n_train: int, n_test: int, limit: int | None, seed: int) -> _Parts:
    if limit is not None and limit < LEAST:
        raise ValueError(f"limit: expected None or at least {LEAST}, got {limit}")
    most = max(n_samples, n_train, n_test) if limit is None else limit
    rng_train, rng_samples, rng_test = np.random.default_rng(seed).spawn(3)
    # The halves of train depend on the seed alone, so that every set of samples is judged in one feature space.
    order, half = rng_train.permutation(n_train), n_train // 2
    return _Parts(
        samples=rng_samples.permutation(n_samples)[: min(half, most)],
        reference=rng_test.permutation(n_test)[:most],
        held_out=order[: min(half, n_samples, most)],
        rest=order[half:],
    )


def _checked(samples: ArrayLike, train: ArrayLike, test: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The three sets as float64 in their own shapes, which FID needs; as points they must be finite and of one size."""
    sets = {"samples": samples, "train": train, "test": test}
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in sets.items()}
    points = {name: as_points(name, array, least=2 if name == "train" else 1) for name, array in arrays.items()}
    for name in ("samples", "test"):
        same_space(name, points[name], "train", points["train"])
    return arrays["samples"], arrays["train"], arrays["test"]


def _labels_of(labels: ArrayLike, n_train: int) -> NDArray[Any]:
    array = np.asarray(labels)
    if array.shape != (n_train,):
        raise ValueError(
            f"labels: expected one for each of {n_train} training rows, got shape {array.shape}; "
            "pass the labels of train"
        )
    return array


def _lazily(
    space: FeatureSpace | None, train: FloatArray, labels: NDArray[Any] | None, seed: int
) -> Callable[[], FeatureSpace]:
    """The space given, or one learned when first asked for: most choices of metrics never ask."""

    @cache
    def learn() -> FeatureSpace:
        return learn_features(train, labels, seed=seed) if space is None else space

    return learn
