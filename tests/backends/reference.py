"""Small processes, networks and draws for any backend, and the numpy execution that all of them are held to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from backends.interface import Draws, Execution, Weights
from backends.networks import MLPSettings, NetworkSettings, UNetSettings, time_frequencies, weight_specs
from backends.recipe import TrainingRecipe
from core.objectives import OBJECTIVES, NoisedBatch, check_objective, noised_batch
from core.reverse import ReverseProcess
from core.samplers import SamplerStep
from core.variances import VARIANCES

FLOAT64 = Execution(device="cpu", dtype="float64")
FLOAT32 = Execution(device="cpu", dtype="float32")

Call = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]
"""A network as numpy sees it: call(x_t, told) -> output in float64."""


def trainable(variance: str, objective: str) -> bool:
    try:
        check_objective(objective, variance)
    except ValueError:
        return False
    return True


TRAINABLE = [pair for pair in itertools.product(VARIANCES, OBJECTIVES) if trainable(*pair)]
TRAINS_KL = [pair for pair in TRAINABLE if pair[1] in ("posterior_kl", "hybrid")]


def random_weights(settings: NetworkSettings, seed: int = 0, size: float = 0.3) -> Weights:
    """Weights with nothing left at 0 or 1, so that every path through the network shows in its output."""
    rng = np.random.default_rng(seed)
    return {
        name: (spec.start == "ones") + size * rng.standard_normal(spec.shape)
        for name, spec in weight_specs(settings).items()
    }


def mlp_settings(learns_variance: bool = False) -> MLPSettings:
    return MLPSettings((3,), width=16, depth=2, time_features=8, learns_variance=learns_variance)


def unet_settings(learns_variance: bool = False) -> UNetSettings:
    return UNetSettings((4, 4, 1), widths=(8, 16), norm_groups=4, learns_variance=learns_variance)


def silu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / (1 + np.exp(-x))


def mlp_by_hand(
    settings: MLPSettings, weights: Weights, x_t: NDArray[np.float64], t: NDArray[np.int64]
) -> NDArray[np.float64]:
    """h += linear_2(silu(linear_1(silu(h)) + time_proj(time))), written out in numpy."""

    def linear(name: str, h: NDArray[np.float64]) -> NDArray[np.float64]:
        return h @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    phase = (t - 1)[:, None] * time_frequencies(settings.time_features)
    features = np.concatenate([np.sin(phase), np.cos(phase)], axis=1)
    time = linear("time_embedding.linear_2", silu(linear("time_embedding.linear_1", features)))
    h = linear("linear_in", x_t)
    for i in range(settings.depth):
        inner = linear(f"blocks.{i}.linear_1", silu(h)) + linear(f"blocks.{i}.time_proj", time)
        h = h + linear(f"blocks.{i}.linear_2", silu(inner))
    return linear("linear_out", silu(h))


def make_draws(process: ReverseProcess, shape: tuple[int, ...], count: int = 12, seed: int = 0) -> Draws:
    """Draws at both ends of the chain and between; x_0 on the process's levels where it has them."""
    rng = np.random.default_rng(seed)
    size = (count, *shape)
    x_0 = rng.uniform(-1, 1, size)
    if process.levels is not None:
        x_0 = rng.integers(0, process.levels, size) * (2 / (process.levels - 1)) - 1
    t = rng.integers(1, process.num_steps + 1, count)
    t[:3] = 1, 2, process.num_steps
    return Draws(x_0, rng.standard_normal(size), t, rng.uniform(0.5, 2, count))


def numpy_batch(call: Call, process: ReverseProcess, draws: Draws) -> tuple[NoisedBatch, NDArray[np.float64]]:
    """The batch in float64 numpy, and the network's output for it."""
    batch = noised_batch(process, draws.x_0, draws.epsilon, draws.t)
    return batch, call(batch.x_t, process.schedule.steps[draws.t])


def noise_of(shape: tuple[int, ...], t: int) -> NDArray[np.float64]:
    return np.random.default_rng(t).standard_normal(shape)


def numpy_chain(
    call: Call, process: ReverseProcess, sampler: SamplerStep, x_T: NDArray[np.float64]
) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]]]:
    """t = T, ..., 1 by `core.samplers` in numpy, with `noise_of`: x_0, and x_0_hat by step."""
    x, x_0_hat, kept = x_T, np.zeros_like(x_T), {}
    for t in range(process.num_steps, 0, -1):
        steps = np.full(len(x), t)
        output = call(x, process.schedule.steps[steps])
        x, x_0_hat = sampler(process, x, output, steps, noise_of(x_T.shape, t), x_0_hat)
        kept[t] = x_0_hat
    return x, kept


def rate_by_hand(recipe: TrainingRecipe, step: int) -> float:
    """A straight line through 0 up to the peak at the end of the warm-up, then (1 + cos a) / 2 = cos^2(a / 2)."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate / recipe.warmup_steps * step
    left = max(recipe.num_steps - recipe.warmup_steps, 1)
    half_angle = np.pi / 2 * np.clip((step - recipe.warmup_steps) / left, 0, 1)
    least = recipe.learning_rate * recipe.final_rate_fraction
    return float(least + (recipe.learning_rate - least) * np.cos(half_angle) ** 2)


def recipe_by_hand(
    weights: Weights,
    gradient_of: Callable[[Weights, Draws], Weights],
    recipe: TrainingRecipe,
    batches: Sequence[Draws],
) -> tuple[dict[str, Weights], list[float]]:
    """The recipe that `backends.recipe` states, in numpy and from its words alone; gradient_of gives that of what is
    minimised.

    The parts of a training state by name, and the factor by which each gradient was clipped.
    """
    weights, factors = dict(weights), []
    average = {name: w.copy() for name, w in weights.items()}
    m = {name: np.zeros_like(w) for name, w in weights.items()}
    v = {name: np.zeros_like(w) for name, w in weights.items()}
    for k, draws in enumerate(batches, start=1):
        gradient = gradient_of(weights, draws)
        norm = np.sqrt(sum(np.sum(g**2) for g in gradient.values()))
        factors.append(1.0 if recipe.clip_norm is None else min(1.0, recipe.clip_norm / (norm + 1e-6)))
        taken = max(1 - recipe.ema_decay, 9 / (10 + k))  # into the average, which keeps the rest
        for name, g in gradient.items():
            clipped = factors[-1] * g
            m[name] = recipe.adam_beta_1 * m[name] + (1 - recipe.adam_beta_1) * clipped
            v[name] = recipe.adam_beta_2 * v[name] + (1 - recipe.adam_beta_2) * clipped**2
            m_hat, v_hat = m[name] / (1 - recipe.adam_beta_1**k), v[name] / (1 - recipe.adam_beta_2**k)
            weights[name] = weights[name] - rate_by_hand(recipe, k) * m_hat / (np.sqrt(v_hat) + recipe.adam_epsilon)
            average[name] = average[name] + taken * (weights[name] - average[name])
    return {"weights": weights, "ema": average, "adam_m": m, "adam_v": v}, factors


def unit_scale_by_hand(process: ReverseProcess, objective: str) -> float:
    """1 over what an output of 0 costs on data of unit variance, by the papers' formulas on the betas themselves.

    With 0 put out, the error is the whole target, of variance `size`: 1, but for the posterior mean, which lacks beta
    tilde of it, and the offset, which is in a unit of its own. What it costs in epsilon follows from the signal to
    noise ratio, and what that costs in nats is the weight of Ho et al. (2020), eq. 12.
    """
    if objective == "hybrid":
        return 1.0
    beta = process.schedule.beta[1:]
    now = np.cumprod(1 - beta)
    before = np.append(1.0, now[:-1])
    snr, tilde = now / (1 - now), beta * (1 - before) / (1 - now)
    size, in_epsilon = {
        "epsilon": (1 + 0 * beta, 1 + 0 * beta),
        "x_0": (1 + 0 * beta, snr),
        "v": (1 + 0 * beta, now),
        "mean": (1 - tilde, (1 - tilde) * snr * (1 - now) ** 2 / (before * beta**2)),
        "offset": (beta * before / (1 - now), now),
    }[process.prediction.name]
    sigma2 = beta.copy() if process.variance.name == "beta" else tilde
    sigma2[0] = beta[0] if process.first_variance == "beta" else tilde[1]
    in_nats = in_epsilon * beta**2 / (2 * sigma2 * (1 - beta) * (1 - now))
    return float(1 / np.mean({"epsilon_mse": in_epsilon, "target_mse": size, "posterior_kl": in_nats}[objective]))
