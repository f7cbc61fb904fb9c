"""The Fréchet distance: fit one Gaussian to each set, and take the distance between the two Gaussians.

d^2 = |m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1^1/2 S_2 S_1^1/2)^1/2), the squared 2-Wasserstein distance of
N(m_1, S_1) and N(m_2, S_2) (Dowson & Landau 1982; Heusel et al. 2017, eq. 6, with Inception features). As in
that literature the *squared* distance is reported. It sees means and covariances and nothing else: two sets
that share them are at distance 0 whatever their shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from studies.metrics.points import FloatArray, as_pair

if TYPE_CHECKING:
    from studies.metrics.features import FeatureSpace


def frechet_distance(samples: ArrayLike, reference: ArrayLike) -> float:
    """d^2 between Gaussians fitted to samples (N, ...) and reference (M, ...), in squared data units; lower is better.

    Covariances divide by N - 1 and may be rank deficient (N <= D). Identical sets give 0 to rounding, never
    below. Bias: upwards, about (1/N + 1/M) times a quantity that grows with tr S and D, so compare values
    only at equal N and M.
    """
    points, others = as_pair(samples, reference)
    shift = points.mean(axis=0) - others.mean(axis=0)
    return float(shift @ shift) + _squared_procrustes(_factor_of_points(points), _factor_of_points(others))


def feature_frechet(samples: ArrayLike, reference: ArrayLike, space: FeatureSpace) -> float:
    """d^2 between Gaussians fitted to phi(samples) and phi(reference), phi = `space.transform`; lower is better.

    The features of the set that taught `space` have a total variance of 1, so the unit is that variance. Bias
    as `frechet_distance`.
    """
    return frechet_distance(space.transform(samples), space.transform(reference))


def gaussian_frechet(mean_1: ArrayLike, covariance_1: ArrayLike, mean_2: ArrayLike, covariance_2: ArrayLike) -> float:
    """d^2 between N(mean_1, covariance_1) and N(mean_2, covariance_2): means (D,), covariances (D, D) of any rank.

    Raises ValueError for shapes that disagree and for a covariance that is not symmetric positive
    semidefinite.
    """
    m_1, m_2 = np.asarray(mean_1, dtype=np.float64), np.asarray(mean_2, dtype=np.float64)
    if m_1.ndim != 1 or m_1.shape != m_2.shape:
        raise ValueError(f"means: expected two vectors of the same length, got shapes {m_1.shape} and {m_2.shape}")
    factor_1 = _factor_of_covariance("covariance_1", covariance_1, m_1.size)
    factor_2 = _factor_of_covariance("covariance_2", covariance_2, m_1.size)
    return float((m_1 - m_2) @ (m_1 - m_2)) + _squared_procrustes(factor_1, factor_2)


def _factor_of_points(points: FloatArray) -> FloatArray:
    """L (D, min(N, D)), L L^T the sample covariance; forming that first would square the condition number."""
    centred = points - points.mean(axis=0)
    triangle = np.asarray(np.linalg.qr(centred, mode="r"), dtype=np.float64)
    factor: FloatArray = triangle.T / np.sqrt(len(points) - 1)
    return factor


def _factor_of_covariance(name: str, covariance: ArrayLike, size: int) -> FloatArray:
    """L (D, D) with L L^T = covariance, from its eigenvectors; eigenvalues negative by rounding alone become 0."""
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.shape != (size, size) or not np.all(np.isfinite(matrix)):
        raise ValueError(
            f"{name}: expected a finite ({size}, {size}) matrix, got shape {matrix.shape}; check for NaN and for D"
        )
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    rounding = 64 * size * np.finfo(np.float64).eps * max(float(np.abs(matrix).max()), np.finfo(np.float64).tiny)
    if np.abs(matrix - matrix.T).max() > rounding or values[0] < -rounding:
        raise ValueError(
            f"{name}: expected a symmetric positive semidefinite matrix, got least eigenvalue {values[0]:.3g} "
            f"and asymmetry {np.abs(matrix - matrix.T).max():.3g}; pass a covariance"
        )
    factor: FloatArray = vectors * np.sqrt(np.maximum(values, 0))
    return factor


def _squared_procrustes(factor_1: FloatArray, factor_2: FloatArray) -> float:
    """min over orthogonal Q of |L_1 - L_2 Q|^2, which is the trace term of d^2 (Bhatia, Jain & Lim 2019, thm. 1).

    Traces less twice a nuclear norm would lose half the digits for near-equal covariances; a sum of squares
    does not, nor is it negative.
    """
    width = max(factor_1.shape[1], factor_2.shape[1])
    left, right = _widen(factor_1, width), _widen(factor_2, width)
    u, _, vt = np.linalg.svd(right.T @ left)
    return float(np.sum((left - right @ (u @ vt)) ** 2))


def _widen(factor: FloatArray, width: int) -> FloatArray:
    """Zero columns on the right: the same covariance, so that the orthogonal Q is square."""
    return np.pad(factor, ((0, 0), (0, width - factor.shape[1])))
