"""Samples of a trained network by any sampler and spacing, from noise shared by the cells of a seed; their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from core.reverse import ReverseProcess, reverse_process
from core.samplers import adds_noise, make_sampler
from studies.cell.draws import sampler_noise, starting_noise
from studies.cell.model import TrainedModel
from studies.datasets import Dataset
from studies.metrics import evaluate
from studies.plan.batches import evaluation_batch
from studies.store.files import Row, blank, row
from studies.store.sampler_chains import Chain

SAMPLE_BATCH = 512
"""Samples whose noise is drawn together; a network too large for so many at once takes them in smaller batches."""
TRAJECTORY_EXAMPLES, TRAJECTORY_STEPS = 8, 8


def visited_process(chain: Chain, full: ReverseProcess) -> ReverseProcess:
    """The reverse process on the steps that the chain visits; the whole one where these are all steps."""
    if chain.steps == full.num_steps:
        return full
    return reverse_process(
        full.schedule.respaced(chain.steps if chain.spacing == "uniform" else f"{chain.spacing}{chain.steps}"),
        full.prediction,
        full.variance,
        first_variance=full.first_variance,
        levels=full.levels,
    )


@dataclass(frozen=True, eq=False)
class Drawn:
    """`samples` (n, ...), and `guesses` (k, m, ...): x_0_hat of the first m at steps `guess_steps` (k,) of 1..T."""

    samples: NDArray[np.float32]
    guesses: NDArray[np.float32]
    guess_steps: NDArray[np.int64]


def draw_samples(
    model: TrainedModel, chain: Chain, count: int, *, clip: float | None = None, stream: str = "samples"
) -> Drawn:
    """`count` samples of the model.

    Chains of one `stream` start from the same x_T and add the same noise at the same position in the chain, in all
    cells of a seed.
    """
    placed = model.placed.on(visited_process(chain, model.process))
    sampler = make_sampler(chain.sampler, clip=clip)
    fitting = 2 * evaluation_batch(placed.network.settings, placed.execution.device)
    most = min(SAMPLE_BATCH, max(TRAJECTORY_EXAMPLES, fitting))
    keep = sorted({int(t) for t in np.rint(np.linspace(1, chain.steps, TRAJECTORY_STEPS))}, reverse=True)
    parts: list[np.ndarray] = []
    guesses: dict[int, np.ndarray] = {}
    for start in range(0, count, SAMPLE_BATCH):
        size, part_stream = min(SAMPLE_BATCH, count - start), f"{stream} from {start}"
        x_T = starting_noise(model.seed, part_stream, size, model.shape)
        noise = partial(sampler_noise, model.seed, part_stream, size, model.shape)
        for first in range(0, size, most):
            rows = slice(first, first + most)
            part, part_guesses = placed.sample(
                sampler,
                x_T[rows],
                partial(_rows_of, noise, rows) if adds_noise(chain.sampler) else None,
                keep=() if parts else keep,
            )
            parts.append(part)
            guesses |= part_guesses
    return Drawn(
        samples=np.concatenate(parts).astype(np.float32),
        guesses=np.stack([guesses[t][:TRAJECTORY_EXAMPLES] for t in keep]).astype(np.float32),
        guess_steps=placed.process.schedule.steps[keep],
    )


def _rows_of(noise: Callable[[int], NDArray[np.float64]], rows: slice, step: int) -> NDArray[np.float64]:
    """Those rows of the noise at a step."""
    return noise(step)[rows]


def score(dataset: Dataset, name: str, samples: NDArray[np.float32], metrics: Sequence[str]) -> list[Row]:
    """Sample metrics, each beside its floor: the same metric between train and test; and how many were compared.

    What the points do not define is a blank, as `files.blank` makes it.
    """
    if not np.all(np.isfinite(samples)):
        return [row("samples_not_finite", int(np.sum(~np.isfinite(samples))), "values", sampler=name)]
    rows: list[Row] = []
    counted: dict[str, int] = {}
    for scored in evaluate(samples, dataset.train, dataset.test, labels=dataset.train_labels, names=metrics):
        for metric, value, why_not in (
            (scored["metric"], scored["value"], scored["why_no_value"]),
            (f"{scored['metric']}_floor", scored["floor"], scored["why_no_floor"]),
        ):
            missing = blank(metric, why_not, sampler=name) if why_not else None
            rows.append(missing or row(metric, value, scored["unit"], sampler=name))
        counted = {"scored_samples": scored["n_samples"], "scored_reference": scored["n_reference"]}
    return rows + [row(metric, count, "examples", sampler=name) for metric, count in counted.items()]
