"""The 2-Wasserstein distance: the least root mean square displacement that carries one set onto the other.

Exact on the two empirical measures by linear programming (Peyré & Cuturi 2019, eq. 2.11), and sliced:
averaged over one-dimensional projections, where sorting solves it (Rabin et al. 2011; Bonneel et al. 2015).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from studies.metrics.points import FloatArray, NonConvergence, as_pair

MAX_PIVOTS = 10_000_000  # POT's default of 100,000 stops early from about a thousand points on


def wasserstein_2(samples: ArrayLike, reference: ArrayLike) -> float:
    """W_2 of samples (N, ...) and reference (M, ...) as empirical measures, in data units; lower is better.

    Bias: upwards, and slow to fade, about N^(-1/D) for D > 4 dimensions, so that in high dimension it is
    mostly floor. Memory N M, time about (N + M)^3 at worst. Raises ImportError without POT, NonConvergence
    if the linear program does not finish.
    """
    from scipy.spatial.distance import cdist

    points, others = as_pair(samples, reference, least=1)
    costs = cdist(points, others, "sqeuclidean")
    mean_cost = _least_mean_cost(costs)
    # A best plan's masses are multiples of 1/lcm, so that none of them is carried at a cost above the whole plan's
    # times lcm. Where one pair of points is very far apart, all others are lost in the first answer's tolerance.
    ceiling = 2 * math.lcm(*costs.shape) * mean_cost
    if ceiling < costs.max():
        mean_cost = min(mean_cost, _least_mean_cost(np.minimum(costs, ceiling)))
    return math.sqrt(mean_cost)


def _least_mean_cost(costs: FloatArray) -> float:
    """The mean cost of the best plan between equal masses, for costs (N, M) of each pair."""
    largest = float(costs.max())
    if largest == 0:
        return 0.0
    # The solver's tolerances are absolute: costs are scaled to at most 1.
    mean_cost, log = _pot().emd2(
        *(np.full(count, 1 / count) for count in costs.shape), costs / largest, numItermax=MAX_PIVOTS, log=True
    )
    if log.get("warning"):
        raise NonConvergence(
            f"W_2 of {' and '.join(map(str, costs.shape))} points: {log['warning']}; use fewer, or sliced_wasserstein_2"
        )
    return max(float(mean_cost), 0.0) * largest


def sliced_wasserstein_2(
    samples: ArrayLike, reference: ArrayLike, *, num_projections: int = 256, seed: int = 0
) -> float:
    """SW_2, the root mean over directions u of W_2^2(u . samples, u . reference), in data units; lower is better.

    Directions come from `seed`, so two calls share them; moving a set by m gives about |m| / sqrt(D), exactly
    so when `num_projections` is a multiple of D. Sizes N and M may differ. Bias: upwards, about N^(-1/2) at
    worst, whatever D.
    """
    points, others = as_pair(samples, reference, least=1)
    directions = projections(points.shape[1], num_projections, seed)
    squared = squared_wasserstein_1d(points @ directions, others @ directions)
    return float(np.sqrt(squared.mean()))


def squared_wasserstein_1d(x: FloatArray, y: FloatArray) -> FloatArray:
    """W_2^2 of each column of x (N, P) and y (M, P): the integral of the squared difference of quantiles; (P,).

    Both quantile functions are steps, so the integral is a finite sum, exact for N != M too.
    """
    n, m = len(x), len(y)
    # Steps end at multiples of 1/N and of 1/M; in units of 1/(N M) they are integers and need no tolerance.
    ends = np.unique(np.concatenate([np.arange(1, n + 1) * m, np.arange(1, m + 1) * n]))
    widths = np.diff(ends, prepend=0) / (n * m)
    gaps = np.sort(x, axis=0)[(ends - 1) // m] - np.sort(y, axis=0)[(ends - 1) // n]
    squared: FloatArray = widths @ gaps**2
    return squared


def projections(dimension: int, count: int, seed: int) -> FloatArray:
    """Unit columns (D, count), each uniform on the sphere, in orthonormal groups of D, which spread evenly."""
    if count < 1:
        raise ValueError(f"num_projections: expected at least 1, got {count}")
    if dimension == 1:
        return np.ones((1, 1))
    rng = np.random.default_rng(seed)
    groups = [np.linalg.qr(rng.normal(size=(dimension, dimension if count >= dimension else count)))[0]]
    while sum(group.shape[1] for group in groups) < count:
        groups.append(np.linalg.qr(rng.normal(size=(dimension, dimension)))[0])
    return np.concatenate(groups, axis=1)[:, :count]


def _pot() -> Any:
    """POT with numpy alone: it would import every framework it finds, and TensorFlow may take the whole GPU."""
    with _environment({f"POT_BACKEND_DISABLE_{name}": "1" for name in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW")}):
        try:
            import ot
        except ImportError as error:
            raise ImportError("exact W_2 needs POT; install the extra `studies`, or `pip install POT`") from error
    module: ModuleType = ot
    return module


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Environment variables for the length of a block, put back afterwards."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
