"""The random numbers of a study, as pure functions of (seed, purpose, index): nothing has to be remembered to go on.

Every draw has its own counter block of a Philox generator (Salmon et al. 2011) keyed by seed and purpose. All
cells of a seed therefore see the same data order, steps and noise, whatever framework they run in, and a
resumed cell sees what it would have seen.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from backends.interface import Draws
from core import timesteps


@lru_cache(maxsize=64)
def _key(seed: int, purpose: str) -> tuple[int, int]:
    first, second = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(2, np.uint64)
    return int(first), int(second)


def generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """The stream of draw `index` for `purpose`: 2^128 numbers of its own."""
    key = np.array(_key(seed, purpose), np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, index, 0], np.uint64)))


@lru_cache(maxsize=4)
def _epoch_order(seed: int, count: int, epoch: int) -> NDArray[np.int64]:
    return generator(seed, "order", epoch).permutation(count)


def batch_indices(seed: int, step: int, batch_size: int, count: int) -> NDArray[np.int64]:
    """The examples of training step 1, 2, ...: consecutive pieces of one shuffled epoch after another, none dropped."""
    positions = np.arange((step - 1) * batch_size, step * batch_size)
    epochs = positions // count
    orders = {epoch: _epoch_order(seed, count, int(epoch)) for epoch in np.unique(epochs)}
    return np.array([orders[epoch][position % count] for epoch, position in zip(epochs, positions, strict=True)])


def training_draws(
    x: NDArray[np.float64],
    seed: int,
    step: int,
    batch_size: int,
    num_steps: int,
    how: str = "uniform",
    probabilities: NDArray[np.float64] | None = None,
) -> Draws:
    """Data, steps, noise and weights of training step 1, 2, ...

    `how` is "uniform", "stratified" or "importance", the last with P(t) in `probabilities` (T,).
    """
    x_0 = x[batch_indices(seed, step, batch_size, len(x))]
    u = generator(seed, "t", step).random(batch_size)
    if how == "importance":
        assert probabilities is not None
        drawn = timesteps.importance(u, probabilities)
    else:
        drawn = {"uniform": timesteps.uniform, "stratified": timesteps.stratified}[how](u, num_steps)
    epsilon = generator(seed, "epsilon", step).standard_normal(x_0.shape)
    return Draws(x_0=x_0, epsilon=epsilon, t=drawn.t, weight=drawn.weight)


def starting_noise(seed: int, sampler: str, count: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """x_T (count, ...) of a sampler: the same for every cell of the seed."""
    return generator(seed, f"x_T of {sampler}").standard_normal((count, *shape))


def sampler_noise(seed: int, sampler: str, count: int, shape: tuple[int, ...], step: int) -> NDArray[np.float64]:
    """The noise (count, ...) that the sampler adds at its step t."""
    return generator(seed, f"noise of {sampler}", step).standard_normal((count, *shape))
