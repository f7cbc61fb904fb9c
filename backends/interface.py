"""The contract between a study and a framework. Arrays cross it as numpy; weights cross it by neutral name.

Steps t are integers in 1..T, checked on the host. Arrays are channels last. A study never sees a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backends.networks import NetworkSettings
from backends.recipe import TrainingRecipe
from core.learned_schedule import LearnedSchedule
from core.objectives import Losses, Objective
from core.probability_flow import ProbedField
from core.reverse import ReverseProcess
from core.samplers import SamplerStep
from core.schedules import Schedule

Weights = dict[str, NDArray[Any]]
"""Neutral name -> array in the neutral layout of `backends.networks`."""


@dataclass(frozen=True, eq=False)
class Draws:
    """What one training step or one batch of bound terms is computed from.

    `x_0`, `epsilon` (N, ...); `t` (N,) integers in 1..T, steps of the process at hand; `weight` (N,) multiplies each
    example's training loss (1 for uniform t).
    """

    x_0: NDArray[Any]
    epsilon: NDArray[Any]
    t: NDArray[np.int64]
    weight: NDArray[Any]


@dataclass(frozen=True)
class Execution:
    """How a backend runs.

    `device` is "auto", "cpu", "cuda", ...; `dtype` "float32", "float64", or "bfloat16" (autocast); `compile` is what
    the framework makes of it (torch.compile; XLA for Keras on TensorFlow, whose steps are always graphs).
    """

    device: str = "auto"
    dtype: str = "float32"
    compile: bool = False


class Trainer(Protocol):
    """A network in training: its weights, Adam's moments, the moving average, and the number of steps taken."""

    step_count: int

    def step(self, draws: Draws) -> Any:
        """One optimiser step on mean(weight * loss) * scale; returns a handle on its `Losses`.

        All are recorded whichever is trained.
        """

    def losses(self, handle: Any) -> Losses:
        """What a handle from `step` holds, as numpy; waits for the device."""

    def weights(self, *, ema: bool = True) -> Weights:
        """The weights in neutral form: the moving average, or the raw ones."""

    def schedule(self, *, ema: bool = True) -> Schedule:
        """The process's own schedule, or the learned one as it stands, by the moving average or raw."""

    def state(self) -> Weights:
        """All that is needed to go on with training, as one flat dictionary of arrays.

        Its keys are "weights/NAME", "ema/NAME", "adam_m/NAME", "adam_v/NAME", and "step", whose array has shape ().
        Where the schedule is learned it also has the entries of `backends.states`.
        """

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from `state`, which may come from the other framework."""


class GroupTrainer(Protocol):
    """Networks of the same settings in training as one program, each on its own draws and objective.

    Each member is trained as a `Trainer` would train it alone, to rounding. Members are counted from 0, and all are at
    the same step. A member's state is one of a `Trainer`'s.
    """

    @property
    def step_count(self) -> int: ...

    def step(self, draws: Sequence[Draws]) -> Any:
        """One optimiser step of every member, on batches of one size; returns a handle on their losses."""

    def losses(self, handle: Any) -> list[Losses]:
        """Those of each member, as numpy; waits for the device."""

    def weights(self, member: int, *, ema: bool = True) -> Weights: ...

    def state(self, member: int) -> Weights: ...

    def load_states(self, given: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Goes on from the members' states, or raises a ValueError in one line and changes nothing."""


BoundTerms = Callable[[Draws], tuple[NDArray[Any], NDArray[Any]]]
"""draws -> (epsilon_mse (N,), posterior_kl (N,) in nats), without gradients; weights are not used."""


class Forward(Protocol):
    """The network alone, without gradients."""

    def __call__(self, x_t: NDArray[Any], t: NDArray[np.int64], times: int = 1) -> NDArray[Any]:
        """Its output for x_t (N, ...) at steps t (N,) of the process.

        It is evaluated `times` times over on what was brought to the device once, and the host waits for the last: for
        whoever times it.
        """


class PlacedModel(Protocol):
    """A network and the process it denoises, checked against each other, where an execution runs them."""

    @property
    def network(self) -> Any:
        """An `nn.Module` or a `keras.Model`; its settings are `network.settings`."""

    @property
    def process(self) -> ReverseProcess: ...

    @property
    def execution(self) -> Execution: ...

    def on(self, process: ReverseProcess) -> PlacedModel:
        """The same network on another process: a respaced chain of its own, for example."""

    def forward(self) -> Forward:
        """The network as a function of numpy arrays, compiled once for all calls of what is returned."""

    def trainer(
        self, objective: str | Objective, recipe: TrainingRecipe, learned: LearnedSchedule | None = None
    ) -> Trainer:
        """A trainer of the network, in place, and of the schedule too where that is `learned`.

        The schedule starts from `learned.start`, which is that of the process: ValueError for another. Once it is
        trained, the network is that of a process on the trainer's `schedule()`, and no longer of this one. Only the
        bound can train one: ValueError for any other objective.
        """

    def loss_and_gradients(self, objective: str | Objective, draws: Draws) -> tuple[NDArray[Any], Weights]:
        """The training loss per example (N,), before weight and scale, and the gradient of its plain mean.

        The gradient is given by the neutral names of the weights.
        """

    def bound_terms(self) -> BoundTerms:
        """The bound's terms of draws, compiled once for all calls of what is returned."""

    def flow_field(self) -> ProbedField:
        """The right-hand side of the probability flow and its Jacobian along probes (`core.probability_flow`)."""

    def sample(
        self,
        sampler: SamplerStep,
        x_T: NDArray[Any],
        noise: Callable[[int], NDArray[Any]] | None,
        keep: Sequence[int] = (),
    ) -> tuple[NDArray[Any], dict[int, NDArray[Any]]]:
        """Runs t = T, ..., 1 of the process from x_T (N, ...); noise(t) gives that step's (N, ...).

        `noise` may be None for a sampler that adds none (`core.samplers.adds_noise`).
        Returns x_0 and, for each t in `keep`, the x_0_hat formed at step t.
        """


class Backend(Protocol):
    """The module `backends.torch` or `backends.keras`. What each can do is in `backends.capabilities`."""

    def describe(self, execution: Execution) -> dict[str, str]:
        """Framework, versions and device in words, for the report."""

    def make_network(self, settings: NetworkSettings, weights: Weights, execution: Execution) -> Any:
        """An `nn.Module` / `keras.Model` with the given neutral weights; called as network(x_t, t)."""

    def export_weights(self, network: Any) -> Weights: ...

    def place(self, network: Any, process: ReverseProcess, execution: Execution) -> PlacedModel:
        """The network with its process, to be trained, measured and sampled; the execution is that it was made for.

        ValueError where the output of the network is not what the process takes.
        """

    def make_group_trainer(
        self,
        settings: NetworkSettings,
        weights: Sequence[Weights],
        process: ReverseProcess,
        objectives: Sequence[str | Objective],
        recipe: TrainingRecipe,
        execution: Execution,
    ) -> GroupTrainer:
        """One network a member, from its weights, on its objective.

        ValueError where `Capabilities.trains_together` says no.
        """
