"""Whether compiling a cell pays: decided before it runs, from the arithmetic of its network and what was measured.

Compiling has a price at the start and shortens every step by a share. On one CPU thread, U-Nets on digits,
torch.compile cost 78 s and gained 8 % with 0.16 M weights, and 1 %, unresolved, with 0.65 M; XLA, for Keras on
TensorFlow, made steps a fifth longer than the graph that runs anyway (`studies/compare_throughput.py --modes both`). On
a GPU neither has been measured, and nothing is compiled unasked.
The decision depends on the settings and the device, never on a clock (`costs`): the same command, the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from backends import capabilities
from backends.interface import Execution
from backends.networks import NetworkSettings, parameter_count
from studies.plan.costs import training_seconds
from studies.plan.machine import uses_gpu
from studies.plan.settings import StudySettings
from studies.store.cells import Cell

SMALL = 300_000
"""Weights up to which a network gains: between the two that were measured."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of a cell's training as it is, what compiling would take off them, and what it would cost."""

    training: float
    gained: float
    price: float

    @property
    def pays(self) -> bool:
        return self.gained > self.price


def estimate(network: NetworkSettings, backend: str, settings: StudySettings) -> Estimate:
    """On a CPU, from what the backend says it gains there."""
    training, measured = training_seconds(network, settings), capabilities(backend).compiling_on_cpu
    if measured is None:
        return Estimate(training, 0.0, 0.0)
    share = measured.share if parameter_count(network) <= SMALL else 0.0
    return Estimate(training, share * training, measured.seconds)


def execution_of(cell: Cell, network: NetworkSettings, settings: StudySettings) -> Execution:
    """How the cell runs: on the settings' device, in its own precision, compiled where that is asked for or pays."""
    asked = settings.execution(cell.dtype)
    if settings.compile != "auto" or uses_gpu(settings.device):
        return asked
    return replace(asked, compile=estimate(network, cell.backend, settings).pays)


def announcement(cell: Cell, network: NetworkSettings, settings: StudySettings) -> str:
    """What is decided for cells like this one, and why, in words."""
    chosen = "compiled" if execution_of(cell, network, settings).compile else "not compiled"
    if settings.compile != "auto":
        return f"{cell.backend} is {chosen}, as asked"
    if uses_gpu(settings.device):
        return f"{cell.backend} is {chosen}: on a GPU only with --compile on"
    expected = estimate(network, cell.backend, settings)
    if not expected.gained:
        return f"{cell.backend} is {chosen}: no gain is known for it on a CPU"
    if round(expected.training) == 0:
        return f"{cell.backend} is {chosen}: training takes less than a second a cell"
    return (
        f"{cell.backend} is {chosen}: it would save about {expected.gained:.0f} of {expected.training:.0f} s of "
        f"training a cell, for {expected.price:.0f} s at the start"
    )
