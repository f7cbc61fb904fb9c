"""Samples do not depend on how many a network takes at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from core.reverse import ReverseProcess, reverse_process
from core.schedules import cosine
from studies.cell import sampling
from studies.store.sampler_chains import Chain

T, SHAPE = 6, (3,)


class RowByRow:
    """A placed model whose samples are x_T and all noise of their own row, weighted by the step it is added at."""

    def __init__(self) -> None:
        self.process = reverse_process(cosine(T), "epsilon", "beta_tilde")
        self.network = self.execution = SimpleNamespace(settings=None, device="cpu")
        self.batches: list[int] = []

    def on(self, process: ReverseProcess) -> RowByRow:
        return self

    def sample(
        self, sampler: Any, x_T: NDArray[Any], noise: Callable[[int], NDArray[Any]] | None, keep: Sequence[int] = ()
    ) -> tuple[NDArray[Any], dict[int, NDArray[Any]]]:
        self.batches.append(len(x_T))
        added = sum(t * noise(t) for t in range(1, T + 1)) if noise else 0.0
        return x_T + added, {t: t * x_T for t in keep}


@pytest.mark.parametrize("name", ["ancestral", "ddim"])
def test_samples_of_small_batches_are_those_of_one(name, monkeypatch):
    drawn = {}
    monkeypatch.setattr(sampling, "SAMPLE_BATCH", 20)
    for fitting in (256, 5):
        monkeypatch.setattr(sampling, "evaluation_batch", lambda network, device, fitting=fitting: fitting)
        placed = RowByRow()
        model = SimpleNamespace(placed=placed, process=placed.process, seed=3, shape=SHAPE)
        drawn[fitting] = sampling.draw_samples(model, Chain(name, T), 33)
        assert placed.batches == ([20, 13] if fitting == 256 else [10, 10, 10, 3])
    np.testing.assert_array_equal(drawn[5].samples, drawn[256].samples)
    np.testing.assert_array_equal(drawn[5].guesses, drawn[256].guesses)
    assert drawn[5].samples.shape == (33, 3)
    assert drawn[5].guesses.shape == (6, 8, 3)
