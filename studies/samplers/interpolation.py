"""Test examples encoded as noise by DDIM run backwards, and what lies between two of them (Song et al. 2021, sec. 5.3).

An example enters as x_1 and is led to x_T by `ddim_reverse_step`; latents of two examples are mixed on a great circle
and led back by DDIM. No noise is drawn and x_0_hat is not clipped, so that the ends come back as what was encoded, the
nearer the more steps the chain has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backends.interface import PlacedModel
from core.interpolation import spherical_interpolation
from core.samplers import ddim_reverse_step, make_sampler
from studies.cell.model import TrainedModel
from studies.cell.sampling import SAMPLE_BATCH, visited_process
from studies.store.sampler_chains import Chain

SHARES = np.linspace(0, 1, 11)
"""How far along its circle each mix is: 0 the first example, 1 the second."""


@dataclass(frozen=True, eq=False)
class Interpolations:
    """Of n pairs: the real `ends` (n, 2, ...), their `latents` x_T likewise, and what is decoded of k mixed latents.

    `decoded` (n, k, ...) at `shares` (k,). `steps`: of the chain.
    """

    ends: NDArray[np.float32]
    latents: NDArray[np.float32]
    decoded: NDArray[np.float32]
    shares: NDArray[np.float64]
    steps: int

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of interpolations.npz."""
        return {
            "ends": self.ends, "latents": self.latents, "decoded": self.decoded, "shares": self.shares,
            "steps": np.array(self.steps),
        }  # fmt: skip

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `as_arrays` gave."""
        ends, latents, decoded, shares, steps = (
            arrays[name] for name in ("ends", "latents", "decoded", "shares", "steps")
        )
        return cls(ends, latents, decoded, shares, int(steps))

    @property
    def round_trip(self) -> NDArray[np.float64]:
        """(2n,) how far every encoded example is from what it is decoded as: root mean square over dims."""
        back = self.decoded[:, [0, -1]].astype(np.float64)
        off = (back - self.ends).reshape(2 * len(self.ends), -1)
        return np.sqrt(np.mean(off**2, axis=1))


def interpolate(model: TrainedModel, chain: Chain, ends: NDArray[np.float64]) -> Interpolations:
    """Both examples of every pair (n, 2, ...) encoded by the steps of `chain`, mixed, and decoded by them."""
    placed = model.placed.on(visited_process(chain, model.process))
    latents = encode(placed, ends.reshape(-1, *model.shape)).reshape(ends.shape)
    mixed = np.stack([spherical_interpolation(latents[:, 0], latents[:, 1], share) for share in SHARES], axis=1)
    decoded = decode(placed, mixed.reshape(-1, *model.shape)).reshape(mixed.shape)
    single = [array.astype(np.float32) for array in (ends, latents, decoded)]
    return Interpolations(single[0], single[1], single[2], SHARES, chain.steps)


def encode(placed: PlacedModel, x_0: NDArray[np.float64]) -> NDArray[np.float64]:
    """x_T (N, ...) of examples, by T - 1 evaluations of the network."""
    forward, parts = placed.forward(), []
    for x in _parts(x_0):
        for t in range(1, placed.process.num_steps):
            steps = np.full(len(x), t)
            x, _ = ddim_reverse_step(placed.process, x, forward(x, steps).astype(np.float64), steps)
        parts.append(x)
    return np.concatenate(parts)


def decode(placed: PlacedModel, x_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """x_0 (N, ...) of latents, by DDIM."""
    sampler = make_sampler("ddim")
    return np.concatenate([placed.sample(sampler, x, None)[0] for x in _parts(x_T)]).astype(np.float64)


def _parts(x: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(x), SAMPLE_BATCH):
        yield x[start : start + SAMPLE_BATCH].astype(np.float64)
