"""A finished run's rows, worked out a second time from its folder alone: checkpoint, data, samples and draws.

Everything here is plain numpy, written from the papers, and shares nothing with what it checks: the network, the
schedule, the losses, the sampler, the metrics and the draws' keys are all stated again. Points in the plane make the
expectations over the noise exact to many digits, by Gauss-Hermite quadrature at every step and test example, so that
an estimate of the run has nothing to hide behind but its own standard error, which is held small.

Ho et al. (2020): eqs. 4-13 and Algorithm 2. Nichol & Dhariwal (2021), sec. 4: respaced chains.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.spatial.distance import cdist, pdist
from scipy.special import log_ndtr, softmax

from backends import installed_backends
from studies.datasets import load_dataset
from studies.plan.grid import grid
from studies.plan.settings import parse_settings
from studies.reporting.page import closing_table
from studies.run.runner import run_study

BACKENDS = installed_backends()
T, BATCH, TRAIN, TEST, SAMPLES, SAMPLE_STEPS = 24, 32, 160, 24, 64, 8
SEEDS = 3
LIMIT = 4.5
"""Standard errors. Some 400 comparisons of a run: the chance that one of them is farther off is 0.3 %, once and for
all, since every draw is fixed."""
ROUNDING = 2e-5
"""Relative, of means over float32 evaluations of the network."""


@dataclass(frozen=True)
class Kind:
    """What a run's cells have in common beside the settings below, and the data's levels (None: a density)."""

    first_variance: str
    variances: tuple[str, ...]
    prediction: str
    levels: int | None
    seeds: int

    @property
    def words(self) -> list[str]:
        chosen = ["--first-variance", self.first_variance, "--predictions", self.prediction]
        return [*chosen, "--variances", *self.variances]


KINDS = {
    "density": Kind("next", ("beta_tilde",), "epsilon", None, SEEDS),
    "levels": Kind("beta", ("beta_tilde", "beta"), "x_0", 9, 1),
}


def points(count: int, levels: int | None, rng: np.random.Generator) -> np.ndarray:
    """Two arcs in the plane, within [-1, 1] where they sit on levels."""
    side, angle = rng.choice((-1.0, 1.0), count), rng.uniform(0.2, 2.8, count)
    plane = np.stack([np.cos(angle) - 0.4 * side, side * np.sin(angle)], axis=1) + 0.2 * rng.standard_normal((count, 2))
    if levels is None:
        return plane
    return np.rint((np.clip(0.6 * plane, -1, 1) + 1) * (levels - 1) / 2) * 2 / (levels - 1) - 1


@dataclass(frozen=True, eq=False)
class FinishedRun:
    folder: Path
    kind: Kind
    train: np.ndarray
    test: np.ndarray
    closing: str

    @property
    def results(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "results.csv")

    def cells(self) -> list[Cell]:
        found = [Cell(self, path) for path in sorted((self.folder / "cells").iterdir())]
        assert len(found) == 2 * len(self.kind.variances) * self.kind.seeds * len(BACKENDS)
        return found


@pytest.fixture(scope="module", params=list(KINDS))
def run(request, tmp_path_factory) -> FinishedRun:
    """A small run as its command makes it, up to the pictures of its report."""
    kind, folder = KINDS[request.param], tmp_path_factory.mktemp("recomputed")
    rng = np.random.default_rng(5)
    train, test = points(TRAIN, kind.levels, rng), points(TEST, kind.levels, rng)
    levels = {} if kind.levels is None else {"levels": kind.levels}
    np.savez(folder / "arcs.npz", train=train, test=test, **levels)
    settings = {
        "dataset": folder / "arcs.npz", "out": folder / "run", "seeds": kind.seeds, "num-steps": T,
        "train-steps": 50, "warmup-steps": 5, "batch-size": BATCH, "learning-rate": 0.01, "mlp-width": 16,
        "mlp-depth": 2, "bound-evaluations": 1000, "flow-examples": 0, "samples": SAMPLES,
        "sample-steps": SAMPLE_STEPS, "full-samples": SAMPLES, "jobs": 1,
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))] + kind.words
    asked = parse_settings(words, description="")
    outcome = run_study("compare_objectives", asked, grid(asked), words, load_dataset(asked.dataset))
    assert not outcome.failed
    return FinishedRun(folder / "run", kind, train, test, closing_table(folder / "run"))


class Cell:
    """A cell's folder: its factors, weights, rows and samples."""

    def __init__(self, run: FinishedRun, folder: Path) -> None:
        self.run, self.kind = run, run.kind
        factors = json.loads((folder / "cell.json").read_text())["factors"]
        self.seed, self.variance = int(factors["seed"]), factors["variance"]
        weights = load_file(folder / "checkpoint.safetensors")
        self.weights = {name: value.astype(np.float64) for name, value in weights.items()}
        self.rows = pd.read_csv(folder / "rows.csv")
        self.samples = dict(np.load(folder / "samples.npz"))

    def row(self, metric: str, **where: object) -> pd.Series:
        rows = self.rows[self.rows["metric"] == metric]
        for column, value in where.items():
            rows = rows[rows[column] == value]
        assert len(rows) == 1, (metric, where)
        return rows.iloc[0]


# The forward process, linear in beta (Ho et al. 2020, sec. 4): entry t of a table is step t, entry 0 the data.
BETA = np.append(0.0, np.linspace(1e-4, 0.02, T))
ALPHA_BAR = np.cumprod(1 - BETA)


def reverse_variance(cell: Cell, beta: np.ndarray, alpha_bar: np.ndarray) -> np.ndarray:
    """sigma_t^2 of the cell: beta_t or beta tilde_t, with beta tilde_2 or beta_1 at t = 1, where beta tilde is 0."""
    tilde = np.append(0.0, beta[1:] * (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]))
    variance = (beta if cell.variance == "beta" else tilde).copy()
    variance[1] = {"next": tilde[2], "beta": beta[1]}[cell.kind.first_variance]
    return variance


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def network(weights: dict[str, np.ndarray], x: np.ndarray, t: int) -> np.ndarray:
    """The perceptron's output at x (M, 2), told step t: h = in(x); h += 2(silu(1(silu(h)) + time)); out(silu(h))."""

    def linear(name: str, values: np.ndarray) -> np.ndarray:
        return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    half = weights["time_embedding.linear_1.weight"].shape[1] // 2
    phase = (t - 1) * 10_000 ** (-np.arange(half) / (half - 1))
    time = linear("time_embedding.linear_1", np.concatenate([np.sin(phase), np.cos(phase)]))
    time = linear("time_embedding.linear_2", silu(time))
    h = linear("linear_in", x)
    for block in ("blocks.0", "blocks.1"):
        inner = linear(f"{block}.linear_1", silu(h)) + linear(f"{block}.time_proj", time)
        h = h + linear(f"{block}.linear_2", silu(inner))
    return linear("linear_out", silu(h))


def epsilon_hat(kind: Kind, output: np.ndarray, x_t: np.ndarray, alpha_bar_t: float) -> np.ndarray:
    if kind.prediction == "epsilon":
        return output
    return (x_t - math.sqrt(alpha_bar_t) * output) / math.sqrt(1 - alpha_bar_t)


def log_decoder(x_0: np.ndarray, mean: np.ndarray, variance: float, levels: int | None) -> np.ndarray:
    """log p(x_0 | x_1) summed over dims: a normal density, or its mass within half a bin (Ho et al. 2020, eq. 13)."""
    if levels is None:
        return np.sum(-0.5 * np.log(2 * np.pi * variance) - (x_0 - mean) ** 2 / (2 * variance), axis=-1)
    half, sigma = 1 / (levels - 1), math.sqrt(variance)
    upper = np.where(x_0 > 1 - half, np.inf, (x_0 + half - mean) / sigma)
    lower = np.where(x_0 < half - 1, -np.inf, (x_0 - half - mean) / sigma)
    # Of the two tails the mass is the difference of the smaller ones.
    swap = lower > 0
    upper, lower = np.where(swap, -lower, upper), np.where(swap, -upper, lower)
    with np.errstate(divide="ignore"):
        log_ratio = log_ndtr(lower) - log_ndtr(upper)
    return np.sum(log_ndtr(upper) + np.log1p(-np.exp(log_ratio)), axis=-1)


def losses(
    cell: Cell, output: np.ndarray, x_0: np.ndarray, epsilon: np.ndarray, t: int
) -> tuple[np.ndarray, np.ndarray]:
    """(epsilon MSE per dim, L_{t-1} in nats) of every example."""
    a, b = ALPHA_BAR[t], ALPHA_BAR[t - 1]
    x_t = math.sqrt(a) * x_0 + math.sqrt(1 - a) * epsilon
    guess = epsilon_hat(cell.kind, output, x_t, a)
    mse = np.mean((epsilon - guess) ** 2, axis=-1)
    variance = reverse_variance(cell, BETA, ALPHA_BAR)[t]
    mean = (x_t - BETA[t] / math.sqrt(1 - a) * guess) / math.sqrt(1 - BETA[t])
    if t == 1:
        return mse, -log_decoder(x_0, mean, variance, cell.kind.levels)
    posterior_variance = BETA[t] * (1 - b) / (1 - a)
    posterior_mean = math.sqrt(b) * BETA[t] / (1 - a) * x_0 + math.sqrt(1 - BETA[t]) * (1 - b) / (1 - a) * x_t
    ratio = posterior_variance / variance
    kl = 0.5 * (ratio - 1 - np.log(ratio) + (posterior_mean - mean) ** 2 / variance)
    return mse, np.sum(kl, axis=-1)


def expected_losses(cell: Cell, nodes: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """The test set's mean (epsilon MSE, L_{t-1}) at t = 1..T, (T,) each, all noise integrated out."""
    node, weight = np.polynomial.hermite_e.hermegauss(nodes)
    epsilon = np.stack(np.meshgrid(node, node), axis=-1).reshape(-1, 2)
    weight = np.outer(weight, weight).ravel() / (2 * np.pi)
    x_0 = np.repeat(cell.run.test, len(epsilon), axis=0)
    epsilon = np.tile(epsilon, (TEST, 1))
    totals = []
    for t in range(1, T + 1):
        x_t = math.sqrt(ALPHA_BAR[t]) * x_0 + math.sqrt(1 - ALPHA_BAR[t]) * epsilon
        both = losses(cell, network(cell.weights, x_t, t), x_0, epsilon, t)
        totals.append([float(np.mean(part.reshape(TEST, -1) @ weight)) for part in both])
    mse, kl = np.transpose(totals)
    return mse, kl


BITS = 1 / (2 * math.log(2))
"""Bits per dim in a nat of a point in the plane."""


@pytest.fixture(scope="module")
def expected(run) -> list[tuple[Cell, np.ndarray, np.ndarray]]:
    return [(cell, *expected_losses(cell)) for cell in run.cells()]


def z(value: float, exact: float, error: float) -> float:
    return (value - exact) / math.hypot(error, ROUNDING * abs(exact))


def test_the_quadrature_is_exact(expected):
    """More nodes change nothing that matters: the oracle's error is far below the run's standard errors."""
    cell, mse, kl = expected[0]
    finer_mse, finer_kl = expected_losses(cell, nodes=24)
    assert np.max(np.abs(mse / finer_mse - 1)) < 1e-5
    assert np.max(np.abs(kl / finer_kl - 1)) < 1e-4


def test_the_prior_term_is_that_of_the_last_step(expected):
    """L_T = KL(N(sqrt(alpha_bar_T) x_0, (1 - alpha_bar_T) I) || N(0, I)): no draw, no network."""
    for cell, *_ in expected:
        a = ALPHA_BAR[T]
        nats = 0.5 * np.sum(a * cell.run.test**2 - a - np.log(1 - a), axis=1)
        assert cell.row("bound_prior")["value"] == pytest.approx(BITS * nats.mean(), rel=1e-10)


def test_the_bound_and_its_split_are_the_sums_over_steps(expected):
    for cell, _, kl in expected:
        bound, decoder = cell.row("bound"), cell.row("bound_decoder")
        prior, diffusion = cell.row("bound_prior")["value"], cell.row("bound_diffusion")["value"]
        assert {bound["unit"], decoder["unit"]} == {"bits/dim"}
        error = bound["standard_error"]
        error_of_diffusion = math.sqrt(error**2 - decoder["standard_error"] ** 2)
        assert error < 0.02 * BITS * np.abs(kl).sum()  # else the comparisons below would say little
        assert abs(z(decoder["value"], BITS * kl[0], decoder["standard_error"])) < LIMIT
        assert abs(z(diffusion, BITS * kl[1:].sum(), error_of_diffusion)) < LIMIT
        assert abs(z(bound["value"], prior + BITS * kl.sum(), error)) < LIMIT
        assert bound["value"] == pytest.approx(prior + diffusion + decoder["value"], rel=1e-12)
        assert cell.row("rate")["value"] == pytest.approx(prior + diffusion, rel=1e-12)
        assert cell.row("distortion")["value"] == pytest.approx(decoder["value"], rel=1e-12)


def test_by_t_every_row_is_the_mean_of_its_steps(expected):
    """And rows have the errors they claim: over a run the mean square of z is near 1.

    Of 32 rows a cell, and draws shared by the cells of a seed, it leaves [0.4, 2] less often than once in 10^4.
    """
    squares = []
    for cell, mse, kl in expected:
        for metric, exact in (("bound_at_t", BITS * kl), ("epsilon_mse_at_t", mse)):
            rows = cell.rows[cell.rows["metric"] == metric]
            first, last = rows["t"].astype(int), rows["t_last"].astype(int)
            assert [t for a, b in zip(first, last, strict=True) for t in range(a, b + 1)] == list(range(1, T + 1))
            means = [exact[a - 1 : b].mean() for a, b in zip(first, last, strict=True)]
            scores = [z(*row) for row in zip(rows["value"], means, rows["standard_error"], strict=True)]
            assert np.max(np.abs(scores)) < LIMIT
            squares += list(np.square(scores))
    assert 0.4 < np.mean(squares) < 2


def test_the_epsilon_mse_is_the_mean_over_steps_and_dims(expected):
    for cell, mse, _ in expected:
        row = cell.row("epsilon_mse")
        assert row["unit"] == "per dim"
        assert row["standard_error"] < 0.02 * mse.mean()
        assert abs(z(row["value"], mse.mean(), row["standard_error"])) < LIMIT


def drawn(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """The stream of a draw: Philox keyed by the seed and the purpose's bytes, the index in the third counter word."""
    key = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, index, 0], np.uint64)))


def test_the_curve_starts_with_a_network_that_puts_out_zero(run):
    """Step 1's losses need no weights: data in the order of the seed, its steps and its noise, and an output of 0."""
    for cell in run.cells():
        x_0 = run.train[drawn(cell.seed, "order").permutation(TRAIN)[:BATCH]]
        t = 1 + (T * drawn(cell.seed, "t", 1).random(BATCH)).astype(int)
        epsilon = drawn(cell.seed, "epsilon", 1).standard_normal((BATCH, 2))
        batch = zip(x_0, epsilon, t, strict=True)
        mse, kl = np.transpose([losses(cell, np.zeros(2), *example) for example in batch])
        first = {"step": 1}
        assert cell.row("train_epsilon_mse", **first)["value"] == pytest.approx(mse.mean(), rel=1e-5)
        assert cell.row("train_posterior_kl", **first)["value"] == pytest.approx(BITS * T * kl.mean(), rel=1e-4)


def ancestral(cell: Cell, steps: int) -> np.ndarray:
    """Algorithm 2 on the steps visited, from the seed's x_T with the seed's noise at each place of the chain."""
    visited = np.append(0, np.rint(np.linspace(1, T, steps)).astype(int))
    alpha_bar = ALPHA_BAR[visited]
    beta = np.append(0.0, 1 - alpha_bar[1:] / alpha_bar[:-1])
    sigma = np.sqrt(reverse_variance(cell, beta, alpha_bar))
    stream = f"ancestral-{steps} from 0"
    x = drawn(cell.seed, f"x_T of {stream}").standard_normal((SAMPLES, 2))
    for i in range(steps, 0, -1):
        guess = epsilon_hat(cell.kind, network(cell.weights, x, visited[i]), x, alpha_bar[i])
        x = (x - beta[i] / math.sqrt(1 - alpha_bar[i]) * guess) / math.sqrt(1 - beta[i])
        if i > 1:
            x = x + sigma[i] * drawn(cell.seed, f"noise of {stream}", i).standard_normal(x.shape)
    return x


@pytest.mark.parametrize("steps", [SAMPLE_STEPS, T])
def test_samples_are_those_of_the_chain(run, steps):
    for cell in run.cells():
        samples = cell.samples[f"ancestral-{steps}"]
        np.testing.assert_allclose(samples, ancestral(cell, steps), rtol=0, atol=1e-4)


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """|m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)), the root's trace from the trace and determinant of a 2 x 2 matrix."""
    product = np.cov(x.T) @ np.cov(y.T)
    root = math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    shift = x.mean(axis=0) - y.mean(axis=0)
    return float(shift @ shift + np.trace(np.cov(x.T)) + np.trace(np.cov(y.T)) - 2 * root)


def sample_metrics(x: np.ndarray, y: np.ndarray, train: np.ndarray) -> dict[str, float]:
    """Samples x against test points y: Kynkaanniemi et al. (2019) with k = 3, Naeem et al. (2020) with k = 5, Gretton
    et al. (2012), eq. 3, at the median distance of y, and P(x nearer to train than y is)."""
    within_x, within_y, across = cdist(x, x), cdist(y, y), cdist(x, y)
    reach_x, reach_y = np.sort(within_x)[:, 3], np.sort(within_y)[:, 3]  # place 0 is the point itself
    n, m, twice_square = len(x), len(y), 2 * np.median(pdist(y)) ** 2
    own_x = (np.exp(-(within_x**2) / twice_square).sum() - n) / (n * (n - 1))
    own_y = (np.exp(-(within_y**2) / twice_square).sum() - m) / (m * (m - 1))
    to_train = cdist(x, train).min(axis=1)[:, None] - cdist(y, train).min(axis=1)
    return {
        "frechet": frechet(x, y),
        "mmd2_1": own_x + own_y - 2 * np.exp(-(across**2) / twice_square).mean(),
        "precision": np.mean((across <= reach_y).any(axis=1)),
        "recall": np.mean((reach_x >= across.T).any(axis=1)),
        "coverage": np.mean(across.min(axis=0) <= np.sort(within_y)[:, 5]),
        "memorisation": np.mean(to_train < 0) + 0.5 * np.mean(to_train == 0),
    }


@pytest.mark.parametrize("steps", [SAMPLE_STEPS, T])
def test_sample_metrics_are_of_the_samples_and_the_test_set(run, steps):
    """Floors take a held-out half of train in the samples' place, and of the other half memorisation's own."""
    order = np.random.default_rng(0).spawn(3)[0].permutation(TRAIN)
    held_out, taught = run.train[order[:SAMPLES]], run.train[order[TRAIN // 2 :]]
    floors = sample_metrics(held_out, run.test, taught)
    for cell in run.cells():
        where = {"sampler": f"ancestral-{steps}"}
        values = sample_metrics(cell.samples[f"ancestral-{steps}"].astype(np.float64), run.test, run.train)
        for metric in values:
            assert cell.row(metric, **where)["value"] == pytest.approx(values[metric], rel=1e-9, abs=1e-9), metric
            assert cell.row(f"{metric}_floor", **where)["value"] == pytest.approx(floors[metric], rel=1e-9, abs=1e-9)
        assert cell.row("scored_samples", **where)["value"] == SAMPLES
        assert cell.row("scored_reference", **where)["value"] == TEST


def test_the_floor_of_the_epsilon_mse_is_that_of_the_training_set(run):
    """The least MSE at x_t is the variance of epsilon given x_t, x_0 one of the training set; what the network adds to
    it is its squared distance from the mean of epsilon given x_t."""
    cell, rng, count = run.cells()[0], np.random.default_rng(11), 2000
    least, added = [], []
    for t in range(1, T + 1):
        a = ALPHA_BAR[t]
        x_0, epsilon = run.train[rng.integers(TRAIN, size=count)], rng.standard_normal((count, 2))
        x_t = math.sqrt(a) * x_0 + math.sqrt(1 - a) * epsilon
        share = softmax(-cdist(x_t, math.sqrt(a) * run.train, "sqeuclidean") / (2 * (1 - a)), axis=1)
        mean = share @ run.train
        least.append(a / (1 - a) * np.mean(share @ run.train**2 - mean**2, axis=1))
        best = (x_t - math.sqrt(a) * mean) / math.sqrt(1 - a)
        answer = epsilon_hat(run.kind, network(cell.weights, x_t, t), x_t, a)
        added.append(np.mean((answer - best) ** 2, axis=1))
    for metric, parts in (("epsilon_mse_floor", least), ("epsilon_mse_above_floor", added)):
        row, error = cell.row(metric), math.sqrt(sum(np.var(part) / count for part in parts)) / T
        assert abs(row["value"] - np.mean(parts)) < LIMIT * math.hypot(row["standard_error"], error)
        for _, row in cell.rows[cell.rows["metric"] == f"{metric}_at_t"].iterrows():
            part = np.concatenate(parts[int(row["t"]) - 1 : int(row["t_last"])])
            error = math.hypot(row["standard_error"], np.std(part) / math.sqrt(len(part)))
            # Where levels tell x_0 from x_t the floor is 0 to rounding.
            assert abs(row["value"] - part.mean()) < LIMIT * error + 1e-9


TWO_DEGREES = 0.95 / math.sqrt(2 * 0.975 * 0.025)
"""Student's t quantile at 97.5 % for 3 seeds, in closed form: 4.303, where a normal's is 1.960."""
MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize("run", ["density"], indirect=True)
@pytest.mark.parametrize(
    ("metric", "sampler", "column"),
    [("bound", None, 0), ("epsilon_mse", None, 1), ("frechet", f"ancestral-{SAMPLE_STEPS}", 2)],
)
def test_the_closing_table_has_the_paired_interval(run, metric, sampler, column):
    """posterior KL - epsilon MSE within each seed, frameworks averaged: mean +- t s / sqrt(n), s dividing by n - 1."""
    (line,) = [line for line in run.closing.splitlines() if line.startswith(f"posterior KL {MINUS} epsilon MSE")]
    printed = re.split(r"\s{2,}", line)[2 + column].replace(MINUS, "-").split("\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
    table = run.results[run.results["metric"] == metric]
    if sampler is not None:
        table = table[table["sampler"] == sampler]
    sides = [table[table["objective"] == name] for name in ("posterior_kl", "epsilon_mse")]
    assert [len(side) for side in sides] == 2 * [run.kind.seeds * len(BACKENDS)]
    by_seed = [[side["value"][side["seed"] == seed].mean() for seed in range(run.kind.seeds)] for side in sides]
    differences = np.subtract(*by_seed)
    mean = differences.mean()
    half_width = TWO_DEGREES * math.sqrt(np.sum((differences - mean) ** 2) / 2 / SEEDS)
    decimals = [len(text.partition(".")[2]) for text in printed]
    assert printed == [f"{mean:+.{decimals[0]}f}", f"{half_width:.{decimals[1]}f}"]
