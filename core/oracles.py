"""Distributions whose optimal denoiser and log density are known: the truth beside a trained model's losses and bound.

`GaussianMixture` is a density with everything in closed form. `EmpiricalDistribution` is the training set itself, whose
denoiser minimises the training loss exactly: a network below its floor has seen the noise. Both answer the same three
questions about p(x_0 | x_t): its mean, the noise that goes with it, and its variance. The floor of a loss follows from
the variance alone (`epsilon_mse_floor`, `posterior_kl_floor`), and so does the best reverse variance (Bao et al. 2022).
Random numbers are arguments; everything is float64 numpy; x_t (N, ...) goes with a step t, one for all or one each
(N,).

Bao et al. (2022): https://arxiv.org/abs/2201.06503
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.arrays import NUMPY, gather
from core.forward import posterior
from core.reverse import ReverseProcess
from core.schedules import Schedule, Table

_CHUNK = 2**22
"""How many numbers a temporary array may hold (32 MB)."""


class Oracle(Protocol):
    """What is known of p(x_0 | x_t), for x_t (N, ...) at integer steps t in 1..T, a scalar or (N,)."""

    def x_0_hat(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table: ...
    def epsilon_hat(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table: ...
    def x_0_variance(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table: ...


class Distribution(Oracle, Protocol):
    """A distribution of x_0 that can be drawn from, with its oracle."""

    @property
    def normals_per_draw(self) -> int:
        """How many normal numbers a draw takes beside its uniform one."""

    @property
    def root_mean_square(self) -> Table:
        """sqrt(E[x^2]) of each coordinate, in the shape of a point."""

    def sample(self, u: ArrayLike, normal: ArrayLike) -> Table:
        """Points (N, ...) from uniform numbers u (N,) in [0, 1) and `normal` (N, normals_per_draw)."""


class Density(Distribution, Protocol):
    """A distribution of x_0 with a density that is known."""

    def log_density(self, x: ArrayLike) -> Table: ...
    def entropy(self) -> float: ...


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """The density sum_k weights[k] N(x; means[k], diag variances[k]) on points x (N, D).

    `weights` (K,), positive, of sum 1; `means` (K, D); `variances` (K, D), or (K,) for isotropic components; positive.
    """

    weights: Table
    means: Table
    variances: Table

    def __post_init__(self) -> None:
        weights, means = np.asarray(self.weights, np.float64), np.asarray(self.means, np.float64)
        variances = np.asarray(self.variances, np.float64)
        if means.ndim != 2 or weights.shape != means.shape[:1] or variances.shape not in (weights.shape, means.shape):
            raise ValueError(
                "a mixture has weights (K,), means (K, D) and variances (K,) or (K, D), "
                f"got {weights.shape}, {means.shape} and {variances.shape}"
            )
        if not (np.all(weights > 0) and np.isclose(weights.sum(), 1, rtol=0, atol=1e-12)):
            raise ValueError(f"the weights of a mixture are positive and sum to 1, got {weights}")
        if not (np.all(variances > 0) and np.all(np.isfinite(variances)) and np.all(np.isfinite(means))):
            raise ValueError("the means of a mixture are finite and its variances finite and positive")
        if variances.ndim == 1:
            variances = np.repeat(variances[:, None], means.shape[1], axis=1)
        for name, value in (("weights", weights), ("means", means), ("variances", variances)):
            object.__setattr__(self, name, value)

    @property
    def dims(self) -> int:
        """D."""
        return int(self.means.shape[1])

    @property
    def mean(self) -> Table:
        """E[x], (D,)."""
        return self.weights @ self.means

    @property
    def variance(self) -> Table:
        """The variance of each coordinate, (D,)."""
        return self.weights @ (self.variances + (self.means - self.mean) ** 2)

    @property
    def root_mean_square(self) -> Table:
        """sqrt(E[x^2]) of each coordinate, (D,)."""
        size: Table = np.sqrt(self.variance + self.mean**2)
        return size

    @property
    def normals_per_draw(self) -> int:
        """D."""
        return self.dims

    def sample(self, u: ArrayLike, normal: ArrayLike) -> Table:
        """Points (N, D) from uniform numbers u (N,) in [0, 1), which choose the component, and `normal` (N, D)."""
        cumulative = np.cumsum(self.weights)
        k = np.searchsorted(cumulative / cumulative[-1], np.asarray(u), side="right")
        k = np.minimum(k, self.weights.size - 1)
        x_0: Table = self.means[k] + np.sqrt(self.variances[k]) * np.asarray(normal)
        return x_0

    def marginal(self, schedule: Schedule, t: int) -> GaussianMixture:
        """The distribution of x_t, itself a mixture; t in 0..T."""
        step = schedule.check_steps(t, lowest=0)
        share = schedule.alpha_bar[step]
        variances = share * self.variances + schedule.one_minus_alpha_bar[step]
        return GaussianMixture(self.weights, np.sqrt(share) * self.means, variances)

    def log_density(self, x: ArrayLike) -> Table:
        """log p(x) in nats, (N,)."""
        offset = self._points(x)[:, None, :] - self.means
        return _log_sum_exp(_log_joint(self, offset, self.variances))

    def log_density_at(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table:
        """log q(x_t) in nats, (N,); t in 0..T."""
        return self._conditional(schedule, x_t, t, lowest=0).log_evidence

    def score(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table:
        """The gradient of log q(x_t), (N, D); t in 0..T."""
        c = self._conditional(schedule, x_t, t, lowest=0)
        return -c.average(c.offset / c.total)

    def x_0_hat(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table:
        """E[x_0 | x_t], (N, D)."""
        c = self._conditional(schedule, x_t, t)
        return c.average(c.means)

    def epsilon_hat(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table:
        """E[epsilon | x_t], (N, D): the noise's standard deviation times minus the score, without a difference."""
        c = self._conditional(schedule, x_t, t)
        return c.noise * c.average(c.offset / c.total)

    def x_0_variance(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table:
        """The variance of each coordinate of x_0 given x_t, (N, D): within the components plus between them."""
        c = self._conditional(schedule, x_t, t)
        return c.average(c.variances + (c.means - c.average(c.means)[:, None, :]) ** 2)

    def entropy(self) -> float:
        """-E[log p(x)] in nats: exact for one component, by quadrature to about 1e-10 for more, in 1 or 2 dimensions.

        A ValueError where the grid would be too large; use `entropy_estimate` there.
        """
        if self.weights.size == 1:
            return float(0.5 * np.sum(np.log(2 * math.pi * math.e * self.variances)))
        if self.dims > 2:
            raise ValueError(f"quadrature is for 1 or 2 dimensions, this mixture has {self.dims}; use entropy_estimate")
        axes = [_quadrature(m, np.sqrt(v)) for m, v in zip(self.means.T, self.variances.T, strict=True)]
        grid_size = math.prod(len(nodes) for nodes, _ in axes)
        if grid_size * self.weights.size > 2**28:
            raise ValueError(f"a grid of {grid_size} points is needed, too many; use entropy_estimate")
        (nodes, weights), others = axes[0], axes[1:]
        total = 0.0
        rows = max(1, _CHUNK * len(nodes) // (grid_size * self.weights.size))
        for first in range(0, len(nodes), rows):
            part = slice(first, first + rows)
            points = np.meshgrid(nodes[part], *(n for n, _ in others), indexing="ij")
            measure = np.prod(np.meshgrid(weights[part], *(w for _, w in others), indexing="ij"), axis=0)
            log_p = self.log_density(np.stack(points, axis=-1).reshape(-1, self.dims))
            total -= float(np.sum(measure.ravel() * np.exp(log_p) * log_p))
        return total

    def entropy_estimate(self, x: ArrayLike) -> tuple[float, float]:
        """The entropy in nats and its standard error, from points x (N, D) drawn from the mixture; N >= 2."""
        surprise = -self.log_density(x)
        if surprise.size < 2:
            raise ValueError(f"an error bar needs at least 2 points, got {surprise.size}")
        return float(surprise.mean()), float(surprise.std(ddof=1) / math.sqrt(surprise.size))

    def _points(self, x: ArrayLike) -> Table:
        x = np.asarray(x, np.float64)
        if x.ndim != 2 or x.shape[1] != self.dims:
            raise ValueError(f"points of this mixture have shape (N, {self.dims}), got {x.shape}")
        return x

    def _conditional(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike, lowest: int = 1) -> _Conditional:
        x_t = self._points(x_t)
        share, noise_variance = _share_and_noise_variance(schedule, x_t, t, lowest)
        share, noise_variance = share[:, None, None], noise_variance[:, None, None]
        total = share * self.variances + noise_variance
        offset = x_t[:, None, :] - np.sqrt(share) * self.means
        log_joint = _log_joint(self, offset, total)
        evidence = _log_sum_exp(log_joint)
        return _Conditional(
            log_evidence=evidence,
            responsibility=np.exp(log_joint - evidence[:, None]),
            offset=offset,
            total=total,
            noise=np.sqrt(noise_variance[:, 0]),
            means=self.means + np.sqrt(share) * self.variances / total * offset,
            variances=self.variances * noise_variance / total,
        )


@dataclass(frozen=True, eq=False)
class _Conditional:
    """p(x_0 | x_t) by component: means, variances (N, K, D) with responsibilities (N, K) of sum 1.

    `offset` (N, K, D) is x_t minus its mean under component k, `total` its variance there, `noise` (N, 1) the std of
    the noise.
    """

    log_evidence: Table
    responsibility: Table
    offset: Table
    total: Table
    noise: Table
    means: Table
    variances: Table

    def average(self, by_component: Table) -> Table:
        average: Table = np.einsum("nk,nkd->nd", self.responsibility, by_component)
        return average


@dataclass(frozen=True, eq=False)
class EmpiricalDistribution:
    """Equal masses at `points` (M, ...): the training set. Its denoiser is the exact minimiser of the training loss.

    Given x_t, point i has probability softmax(-(x_t - sqrt(alpha_bar_t) x_i)^2 / (2 (1 - alpha_bar_t))). Squared
    distances come from inner products, so log odds are exact to about 1e-16 |x_t|^2 / (1 - alpha_bar_t). Work is done
    in chunks of bounded memory.
    """

    points: Table

    def __post_init__(self) -> None:
        points = np.asarray(self.points, np.float64)
        if points.ndim < 2 or not len(points) or not np.all(np.isfinite(points)):
            raise ValueError(
                f"the points of a training set are finite, of shape (M, ...) with M >= 1, got {points.shape}"
            )
        object.__setattr__(self, "points", points)

    @property
    def root_mean_square(self) -> Table:
        """sqrt(E[x^2]) of each coordinate, in the shape of a point."""
        size: Table = np.sqrt(np.mean(self.points**2, axis=0))
        return size

    @property
    def normals_per_draw(self) -> int:
        """None: the points are all there is."""
        return 0

    def sample(self, u: ArrayLike, normal: ArrayLike = ()) -> Table:
        """Points (N, ...) from uniform numbers u (N,) in [0, 1)."""
        k = (np.asarray(u) * len(self.points)).astype(np.int64)
        return self.points[np.minimum(k, len(self.points) - 1)]

    def log_density_at(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table:
        """log q(x_t) in nats, (N,); t in 1..T, since at 0 there is no density."""
        out = []
        for x, _, noise_variance, log_odds in self._chunks(schedule, x_t, t):
            log_norm = 0.5 * x.shape[1] * np.log(2 * math.pi * noise_variance) + math.log(len(self.points))
            out.append(_log_sum_exp(log_odds) - np.sum(x * x, axis=1) / (2 * noise_variance) - log_norm)
        return np.concatenate(out)

    def score(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table:
        """The gradient of log q(x_t), (N, ...)."""
        _, noise_variance = _share_and_noise_variance(schedule, np.asarray(x_t), t, 1)
        return -self.epsilon_hat(schedule, x_t, t) / np.sqrt(_rows(noise_variance, np.asarray(x_t)))

    def x_0_hat(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table:
        """E[x_0 | x_t], the average of the training points by their probability given x_t; (N, ...)."""
        means = [_softmax(log_odds) @ self._flat for *_, log_odds in self._chunks(schedule, x_t, t)]
        return np.concatenate(means).reshape(np.shape(x_t))

    def epsilon_hat(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table:
        """E[epsilon | x_t], (N, ...)."""
        x_t = np.asarray(x_t, np.float64)
        share, noise_variance = (_rows(rows, x_t) for rows in _share_and_noise_variance(schedule, x_t, t, 1))
        return (x_t - np.sqrt(share) * self.x_0_hat(schedule, x_t, t)) / np.sqrt(noise_variance)

    def x_0_variance(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Table:
        """The variance of each coordinate of x_0 given x_t, (N, ...); rounding leaves about 1e-16 times the data's."""
        variances = []
        for *_, log_odds in self._chunks(schedule, x_t, t):
            probability = _softmax(log_odds)
            centred_mean = probability @ self._centred
            variances.append(np.maximum(probability @ self._centred**2 - centred_mean**2, 0.0))
        return np.concatenate(variances).reshape(np.shape(x_t))

    @cached_property
    def _flat(self) -> Table:
        return self.points.reshape(len(self.points), -1)

    @cached_property
    def _centred(self) -> Table:
        centred: Table = self._flat - self._flat.mean(axis=0)
        return centred

    def _chunks(self, schedule: Schedule, x_t: ArrayLike, t: ArrayLike) -> Iterator[tuple[Table, Table, Table, Table]]:
        """By rows of x_t: flat x (n, D), alpha_bar (n,), 1 - alpha_bar (n,), log odds (n, M) up to a constant each."""
        x_t = np.asarray(x_t, np.float64)
        if x_t.shape[1:] != self.points.shape[1:]:
            raise ValueError(
                f"x_t is (N, ...) with the shape {self.points.shape[1:]} of a training point, got {x_t.shape}"
            )
        share, noise_variance = _share_and_noise_variance(schedule, x_t, t, 1)
        flat = x_t.reshape(len(x_t), -1)
        half_square = 0.5 * np.sum(self._flat**2, axis=1)
        rows = max(1, _CHUNK // len(self.points))
        for first in range(0, len(flat), rows):
            part = slice(first, first + rows)
            x, a, v = flat[part], share[part], noise_variance[part]
            log_odds = (np.sqrt(a)[:, None] * (x @ self._flat.T) - a[:, None] * half_square) / v[:, None]
            yield x, a, v, log_odds


def reverse_variance(schedule: Schedule, x_0_variance: ArrayLike, t: ArrayLike) -> Table:
    """The variance of p(x_{t-1} | x_t) from that of x_0 given x_t: beta tilde + on_x_0^2 * x_0_variance.

    The best variance of a Gaussian reverse step with the right mean: for each x_t and coordinate as given, or for a
    variance shared over x_t and coordinates, with `x_0_variance` averaged over them (Bao et al. 2022, theorem 1).
    `x_0_variance` (N, ...) or a scalar; t a scalar or (N,).
    """
    x_0_variance = np.asarray(x_0_variance, np.float64)
    q = posterior(schedule, t)
    variance: Table = _rows(q.variance, x_0_variance) + _rows(q.on_x_0, x_0_variance) ** 2 * x_0_variance
    return variance


def epsilon_mse_floor(schedule: Schedule, x_0_variance: ArrayLike, t: ArrayLike) -> Table:
    """The least expected epsilon MSE given each x_t, mean over dims, (N,): SNR_t times the variance of x_0.

    Averaged over x_t drawn from q(x_t) it is the least loss that any network can have at step t.
    `x_0_variance` (N, ...).
    """
    x_0_variance = np.asarray(x_0_variance, np.float64)
    snr = np.exp(schedule.log_snr[schedule.check_steps(t)])
    mse: Table = snr * np.mean(x_0_variance, axis=tuple(range(1, x_0_variance.ndim)))
    return mse


def posterior_kl_floor(process: ReverseProcess, x_0_variance: ArrayLike, t: ArrayLike) -> Table:
    """The least expected L_{t-1} given each x_t, in nats per example, (N,), for the variance of `process`.

    With a learned variance it is 1/2 sum log(reverse variance / beta tilde); with a fixed one it is what the error of
    the best mean and the variance itself cost. At t = 1 it is the term of a density; on data with levels that term has
    no closed form, and asking for it is a ValueError. `x_0_variance` (N, ...).
    """
    x_0_variance = np.asarray(x_0_variance, np.float64)
    t = np.broadcast_to(process.schedule.check_steps(t), x_0_variance.shape[:1])
    if process.levels is not None and np.any(t == 1):
        raise ValueError("the floor at t = 1 is known for continuous data only; ask for t >= 2, or levels=None")
    q, tables = posterior(process.schedule, t), process.tables
    mean_variance = _rows(q.on_x_0, x_0_variance) ** 2 * x_0_variance
    is_first = _rows(t == 1, x_0_variance)
    floor = gather(NUMPY, tables.log_variance_floor, t, x_0_variance)
    at_floor = 0.5 * mean_variance * np.exp(-floor)
    if process.learns_variance:
        later = 0.5 * np.log1p(mean_variance / np.where(is_first, 1.0, _rows(q.variance, x_0_variance)))
    else:
        later = gather(NUMPY, tables.kl_of_variances, t, x_0_variance) + at_floor
    if process.variance.has_say(tables.log_variance_span[1]):
        with np.errstate(divide="ignore"):
            first = 0.5 * np.log(2 * math.pi * math.e * mean_variance)
    else:
        first = 0.5 * (math.log(2 * math.pi) + floor) + at_floor
    nats: Table = np.sum(np.where(is_first, first, later), axis=tuple(range(1, x_0_variance.ndim)))
    return nats


def optimal_output(process: ReverseProcess, oracle: Oracle, x_t: ArrayLike, t: ArrayLike) -> Table:
    """What the best network puts out at x_t (N, ..., C): E[target | x_t], and the best variance where it is learned.

    Shape (N, ..., C), or (N, ..., 2C) where the variance is learned. A range of width 0 (learned_range at t = 1 with
    first_variance "beta", say) leaves no choice, and gets 0.
    """
    x_t = np.asarray(x_t, np.float64)
    t = np.broadcast_to(process.schedule.check_steps(t), x_t.shape[:1])
    schedule, tables = process.schedule, process.tables
    mean: Table = process.target(oracle.x_0_hat(schedule, x_t, t), oracle.epsilon_hat(schedule, x_t, t), t)
    if not process.learns_variance:
        return mean
    log_variance = np.log(reverse_variance(schedule, oracle.x_0_variance(schedule, x_t, t), t))
    added = log_variance - gather(NUMPY, tables.log_variance_floor, t, x_t)
    value = process.variance.value(gather(NUMPY, tables.log_variance_span, t, x_t), added)
    return np.concatenate([mean, value], axis=-1)


def _share_and_noise_variance(
    schedule: Schedule, x_t: NDArray[np.float64], t: ArrayLike, lowest: int
) -> tuple[Table, Table]:
    """alpha_bar and 1 - alpha_bar for each row of x_t, (N,)."""
    steps = np.broadcast_to(schedule.check_steps(t, lowest), x_t.shape[:1])
    return schedule.alpha_bar[steps], schedule.one_minus_alpha_bar[steps]


def _rows(rows: ArrayLike, like: Table) -> Table:
    """A scalar, or (N,) shaped to broadcast over the examples of `like` (N, ...)."""
    rows = np.asarray(rows)
    return rows if rows.ndim == 0 else rows.reshape((-1,) + (1,) * (like.ndim - 1))


def _log_joint(mixture: GaussianMixture, offset: Table, variances: Table) -> Table:
    """log(weights[k] N(offset; 0, variances)), (N, K), from offsets (N, K, D)."""
    log_joint: Table = np.log(mixture.weights) - 0.5 * np.sum(
        np.log(2 * math.pi * variances) + offset**2 / variances, axis=2
    )
    return log_joint


def _log_sum_exp(x: Table) -> Table:
    largest = np.max(x, axis=1)
    log_sum: Table = largest + np.log(np.sum(np.exp(x - largest[:, None]), axis=1))
    return log_sum


def _softmax(x: Table) -> Table:
    exp = np.exp(x - np.max(x, axis=1, keepdims=True))
    shares: Table = exp / np.sum(exp, axis=1, keepdims=True)
    return shares


def _quadrature(means: Table, stds: Table, reach: float = 10.0) -> tuple[Table, Table]:
    """Nodes and weights on a line for functions that vary as normals (means, stds) do, within `reach` stds of one.

    Gauss-Legendre on panels half as wide as the narrowest component there; what is out of reach of all carries no mass.
    """
    starts, ends = means - reach * stds, means + reach * stds
    left, panels = float(starts.min()), []
    while left < ends.max():
        near = (starts <= left) & (left < ends)
        later = starts[starts > left]
        if near.any():
            right = min(left + 0.5 * float(stds[near].min()), float(later.min(initial=np.inf)))
            panels.append((left, right))
        else:
            right = float(later.min())
        left = right
    edges = np.array(panels)
    node, weight = np.polynomial.legendre.leggauss(8)
    half = (edges[:, 1] - edges[:, 0]) / 2
    nodes = (edges[:, 0] + half)[:, None] + half[:, None] * node
    return nodes.ravel(), (half[:, None] * weight).ravel()
