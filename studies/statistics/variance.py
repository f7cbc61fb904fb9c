"""Where the variance of a balanced study comes from: objective, backend, seed, and their interactions.

A crossed design with one value a cell. Sums of squares are computed from marginal means in numpy; the
objective and the backend are fixed factors, the seed is random, and the highest interaction cannot be told
from error.
"""

from collections.abc import Sequence
from itertools import combinations
from math import prod

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from studies.statistics.pairing import cell_table

RESIDUAL = "residual"


def variance_split(frame: pd.DataFrame, metric: str, factors: Sequence[str] = ("objective", "backend")) -> pd.DataFrame:
    """Share of the variance of one metric for each factor, the seed, and every interaction; one row a term.

    Columns: term ("objective", "objective x seed", ..., "residual" for the highest interaction), degrees,
    then sum_of_squares and mean_square (squared unit of the metric), and two answers to "which share?":

    - eta_squared, SS_term / SS_total: the share in these very values. It needs no model and sums to 1, but
      noise gives every term something, about its degrees of freedom.
    - component, the term's variance estimated from expected mean squares of the restricted mixed model
      (Montgomery, Design and Analysis of Experiments, ch. 13), scaled so that they add up to the variance of
      a random cell of a random seed: for a set A of fixed factors with l levels each and N values in all,
      prod_A (l-1)/l * (MS_A - MS_{A x seed}) * prod_A l / N; for a term with the seed likewise over
      MS_residual. It is unbiased when the highest interaction is pure error, so it can be negative: then the
      term is not seen.
    - share, max(component, 0) over the sum of such; the clamp shows, as `component` stays as estimated.

    A factor with one level has no terms. With one seed nothing estimates the error, so component and share
    are NaN and eta_squared alone is given. If nothing varies at all, eta_squared and share are 0. ValueError
    for an unbalanced study, or one with a single value.
    """
    table = cell_table(frame, metric, factors)
    sizes = [*(len(table.columns.unique(name)) for name in factors), len(table)]
    names = [name for name, size in zip([*factors, "seed"], sizes, strict=True) if size > 1]
    cube = table.to_numpy().T.reshape([size for size in sizes if size > 1])
    if not names:
        raise ValueError(f"{metric}: expected several cells to split the variance between, got a single value")
    squares = _sums_of_squares(cube)
    degrees = {term: prod(cube.shape[axis] - 1 for axis in term) for term in squares}
    total = sum(squares.values())
    components = _components(squares, degrees, cube.shape) if "seed" in names else dict.fromkeys(squares, np.nan)
    seen = sum(np.maximum(component, 0) for component in components.values())  # NaN stays NaN
    rows = [
        {
            "term": _name(term, names),
            "degrees": degrees[term],
            "sum_of_squares": squares[term],
            "mean_square": squares[term] / degrees[term],
            "eta_squared": squares[term] / total if total > 0 else 0.0,
            "component": components[term],
            "share": np.maximum(components[term], 0) / seen if seen != 0 else 0.0,
        }
        for term in squares
    ]
    return pd.DataFrame(rows)


def _sums_of_squares(cube: NDArray[np.float64]) -> dict[tuple[int, ...], float]:
    """The sum of squares of every set of axes, smallest sets first.

    The effect of a set A is the cube averaged over the axes outside A and centred along those inside.
    """
    axes = range(cube.ndim)
    squares = {}
    for term in (term for size in axes for term in combinations(axes, size + 1)):
        effect = cube - cube.flat[0]  # equal values then leave exactly zero, not one rounding of their mean
        for axis in axes:
            mean = effect.mean(axis=axis, keepdims=True)
            effect = effect - mean if axis in term else mean
        squares[term] = float(np.sum(effect**2)) * cube.size / effect.size
    return squares


def _components(
    squares: dict[tuple[int, ...], float], degrees: dict[tuple[int, ...], int], shape: tuple[int, ...]
) -> dict[tuple[int, ...], float]:
    """Variance of each term in a random cell, from E[MS] of the restricted model; last axis: the seed."""
    mean_squares = {frozenset(term): squares[term] / degrees[term] for term in squares}
    seed, everything = len(shape) - 1, frozenset(range(len(shape)))
    components = {}
    for term in squares:
        axes = frozenset(term)
        if axes == everything:
            components[term] = mean_squares[axes]
            continue
        error = everything if seed in axes else axes | {seed}
        repeats = prod(shape[axis] for axis in everything - axes)
        finite = prod((shape[axis] - 1) / shape[axis] for axis in axes - {seed})
        components[term] = finite * (mean_squares[axes] - mean_squares[error]) / repeats
    return components


def _name(term: tuple[int, ...], names: Sequence[str]) -> str:
    """ "objective x seed"; the highest interaction with a seed in it is the residual."""
    if "seed" in names and 1 < len(names) == len(term):
        return RESIDUAL
    return " x ".join(names[axis] for axis in term)
