"""A backend without a framework: losses in closed form, training by known steps, and a record of all that reaches it.

`FakeBackend` keeps the contract of `backends.interface.Backend` in numpy alone, so that a whole cell runs on it
unchanged, in a small fraction of a second. The fixture `fakes` puts two of them, "fake_one" and "fake_two", where
`backends.load_backend` finds them: they stand for two frameworks. `entry` runs cells on them.

What it computes:

- The losses are `losses(weights, process, draws) -> (epsilon_mse (N,), posterior_kl (N,))`. By default they depend on
  all that they are given (`of_everything`); `of_t` gives losses known at every t, `of_weights` such as tell which
  weights they are of. Assign `fake.losses` before a cell runs.
- After k steps the raw weights are the initial ones plus k PACE[objective], the moving average the initial ones plus
  k PACE[objective] / 4, whatever the draws: `trained_weights`. A learned schedule's parameters are k / 32 and k / 128.
  Adam's moments are filled with -k and k.
- The field of the flow is dx / d lambda = FLOW_RATE x.
- A chain ends at x_0 = x_T / 2 + the mean of its noise, or at `fake.samples[:N]` where these are set; its guesses at
  step t are t.
- The network alone puts out zeros, unrecorded.

What it records, in the order in which it came, in `fake.calls`: one dataclass a call. `fake.trainings` and
`fake.evaluations` arrange them by the trainer or the network that they were made of; `Evaluation` tells the stages of
a cell's measuring apart. Arrays are copies: what is changed afterwards does not change the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.capabilities import Capabilities
from backends.interface import Draws, Execution, Weights
from backends.networks import MLPSettings, NetworkSettings
from backends.recipe import TrainingRecipe
from core.learned_schedule import LearnedSchedule
from core.objectives import Losses
from core.reverse import ReverseProcess
from core.samplers import SamplerStep
from core.schedules import Schedule

TRAINS_POINTS = Capabilities((), groups_of=(MLPSettings,), cpu_groups_of=(MLPSettings,))

LossesOf = Callable[[Weights, ReverseProcess, Draws], tuple[NDArray[np.float64], NDArray[np.float64]]]

PACE = {"epsilon_mse": 1 / 8, "target_mse": 1 / 4, "posterior_kl": 1 / 2, "hybrid": 1.0}
"""By how much a step moves every raw weight; the average moves a quarter as far."""
AVERAGE_SHARE = 1 / 4
SCHEDULE_PACE = 1 / 32
FLOW_RATE = 1 / 16


def mean_weight(weights: Mapping[str, NDArray[Any]]) -> float:
    return float(np.mean(np.concatenate([np.ravel(weights[name]) for name in sorted(weights)])))


def trained_weights(initial: Weights, objective: str, steps: int, *, ema: bool = True) -> Weights:
    """The weights after so many steps: their moving average, or the raw ones."""
    moved = PACE[objective] * steps * (AVERAGE_SHARE if ema else 1)
    return {name: array + moved for name, array in initial.items()}


def of_everything(
    weights: Weights, process: ReverseProcess, draws: Draws
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Losses in which weights, data, noise, and step each have a part."""
    axes = tuple(range(1, draws.x_0.ndim))
    of_draws = np.mean((draws.x_0 - 0.5 * draws.epsilon) ** 2, axis=axes) + draws.t / process.num_steps
    size = 1 + mean_weight(weights) ** 2
    return size * of_draws, 3 * size * of_draws / np.sqrt(draws.t)


def of_t(epsilon_mse: Sequence[float], posterior_kl: Sequence[float]) -> LossesOf:
    """Losses known by t: entry t - 1 of each."""
    mse, kl = np.asarray(epsilon_mse, np.float64), np.asarray(posterior_kl, np.float64)
    return lambda weights, process, draws: (mse[draws.t - 1], kl[draws.t - 1])


def of_weights(
    weights: Weights, process: ReverseProcess, draws: Draws
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean weight as every epsilon MSE, and ten times that as every KL."""
    value = np.full(len(draws.t), mean_weight(weights))
    return value, 10 * value


@dataclass(frozen=True, eq=False)
class FakeNetwork:
    """What `make_network` was given."""

    settings: NetworkSettings
    weights: Weights
    execution: Execution


@dataclass(frozen=True, eq=False)
class Trained:
    """What a placed model's `trainer` or, for one of its members, `make_group_trainer` was given, and what came later.

    `steps`: the draws of every step; `loaded`: the states gone on from; `asked`: for each `weights` call, whether for
    the average.
    """

    settings: NetworkSettings
    initial: Weights
    process: ReverseProcess
    objective: str
    recipe: TrainingRecipe
    execution: Execution
    learned: LearnedSchedule | None
    group: tuple[str, ...]
    steps: list[Draws] = field(default_factory=list)
    loaded: list[Weights] = field(default_factory=list)
    asked: list[bool] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class MadeTerms:
    network: FakeNetwork
    process: ReverseProcess
    execution: Execution


@dataclass(frozen=True, eq=False)
class MadeField:
    network: FakeNetwork
    process: ReverseProcess
    execution: Execution


@dataclass(frozen=True, eq=False)
class Terms:
    """One batch of bound terms."""

    network: FakeNetwork
    draws: Draws


@dataclass(frozen=True, eq=False)
class Field:
    """One evaluation of the flow's right-hand side."""

    network: FakeNetwork
    x: NDArray[Any]
    log_snr: float
    probes: NDArray[Any]


@dataclass(frozen=True, eq=False)
class ChainRun:
    """One call of `sample`; `noise` by step t, in the order asked for, empty where the sampler adds none."""

    network: FakeNetwork
    process: ReverseProcess
    sampler: SamplerStep
    execution: Execution
    x_T: NDArray[Any]
    noise: dict[int, NDArray[Any]]
    keep: tuple[int, ...]
    x_0: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Reported:
    """A cell's own word about its progress, which `entry` puts among the calls."""

    stage: str
    cell: str


class FakeTrainer:
    """One network in training, by the steps of `PACE`."""

    def __init__(self, backend: FakeBackend, record: Trained) -> None:
        self.backend, self.record = backend, record
        self.step_count = 0
        self._start = record.initial

    def step(self, draws: Draws) -> Any:
        draws = copied(draws)
        self.record.steps.append(draws)
        mse, kl = self.backend.losses(self._at(ema=False), self.record.process, draws)
        self.step_count += 1
        kl_per_dim = kl / np.prod(draws.x_0.shape[1:])
        trained = {"posterior_kl": kl_per_dim, "hybrid": mse + kl_per_dim}.get(self.record.objective, mse)
        return Losses(mse, kl, trained)

    def losses(self, handle: Any) -> Losses:
        return Losses(*handle)

    def weights(self, *, ema: bool = True) -> Weights:
        self.record.asked.append(ema)
        return self._at(ema=ema)

    def schedule(self, *, ema: bool = True) -> Schedule:
        if self.record.learned is None:
            return self.record.process.schedule
        return self.record.learned.frozen(self._schedule_parameters(ema=ema))

    def state(self) -> Weights:
        initial, k = self._start, self.step_count
        parts = {
            "weights": self._at(ema=False),
            "ema": self._at(ema=True),
            "adam_m": {name: np.full(array.shape, -float(k)) for name, array in initial.items()},
            "adam_v": {name: np.full(array.shape, float(k)) for name, array in initial.items()},
        }
        flat = {f"{part}/{name}": array for part, named in parts.items() for name, array in named.items()}
        if self.record.learned is not None:
            size = self.record.learned.size
            flat |= {
                "schedule/weights": self._schedule_parameters(ema=False),
                "schedule/ema": self._schedule_parameters(ema=True),
                "schedule/adam_m": np.full(size, -float(k)),
                "schedule/adam_v": np.full(size, float(k)),
            }
        return {**flat, "step": np.array(k, np.int64)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from `state`, by its own numbers; one that is inconsistent in itself is no state."""
        k, pace = int(state["step"]), PACE[self.record.objective]
        start = {name: np.asarray(state[f"weights/{name}"]) - k * pace for name in self._start}
        for name, array in start.items():
            averaged = array + k * pace * AVERAGE_SHARE
            if not np.allclose(state[f"ema/{name}"], averaged, rtol=0, atol=1e-12):
                raise ValueError(f"the moving average of {name} is not that of its weights after {k} steps")
            if np.any(state[f"adam_m/{name}"] != -k) or np.any(state[f"adam_v/{name}"] != k):
                raise ValueError(f"Adam's moments of {name} are not those after {k} steps")
        self.record.loaded.append({name: np.array(array) for name, array in state.items()})
        self._start, self.step_count = start, k

    def _at(self, *, ema: bool) -> Weights:
        return trained_weights(self._start, self.record.objective, self.step_count, ema=ema)

    def _schedule_parameters(self, *, ema: bool) -> NDArray[np.float64]:
        assert self.record.learned is not None
        moved = SCHEDULE_PACE * self.step_count * (AVERAGE_SHARE if ema else 1)
        return np.full(self.record.learned.size, moved)


class FakeGroup:
    """Networks in training together: one `FakeTrainer` a member."""

    def __init__(self, members: Sequence[FakeTrainer]) -> None:
        self.members = list(members)

    @property
    def step_count(self) -> int:
        return self.members[0].step_count

    def step(self, draws: Sequence[Draws]) -> Any:
        return [member.step(own) for member, own in zip(self.members, draws, strict=True)]

    def losses(self, handle: Any) -> list[Losses]:
        return list(handle)

    def weights(self, member: int, *, ema: bool = True) -> Weights:
        return self.members[member].weights(ema=ema)

    def state(self, member: int) -> Weights:
        return self.members[member].state()

    def load_states(self, given: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        for member, state in zip(self.members, given, strict=True):
            member.load_state(state)


class FakePlaced:
    """A network and its process; whatever is asked of them is the backend's to compute and record."""

    def __init__(
        self, backend: FakeBackend, network: FakeNetwork, process: ReverseProcess, execution: Execution
    ) -> None:
        self.backend, self.network, self.process, self.execution = backend, network, process, execution

    def on(self, process: ReverseProcess) -> FakePlaced:
        return FakePlaced(self.backend, self.network, process, self.execution)

    def trainer(self, objective: str, recipe: TrainingRecipe, learned: LearnedSchedule | None = None) -> FakeTrainer:
        network = self.network
        record = Trained(
            network.settings,
            network.weights,
            self.process,
            objective,
            recipe,
            self.execution,
            learned,
            group=(objective,),
        )
        self.backend.calls.append(record)
        return FakeTrainer(self.backend, record)

    def loss_and_gradients(self, objective: str, draws: Draws) -> tuple[NDArray[Any], Weights]:
        """The loss that the objective names, the KL per dim, and a gradient of ones."""
        mse, kl = self.backend.losses(self.network.weights, self.process, draws)
        loss = kl / np.prod(draws.x_0.shape[1:]) if objective == "posterior_kl" else mse
        return loss, {name: np.ones_like(array) for name, array in self.network.weights.items()}

    def bound_terms(self) -> Callable[[Draws], tuple[NDArray[Any], NDArray[Any]]]:
        self.backend.calls.append(MadeTerms(self.network, self.process, self.execution))

        def terms(draws: Draws) -> tuple[NDArray[Any], NDArray[Any]]:
            self.backend.calls.append(Terms(self.network, copied(draws)))
            return self.backend.losses(self.network.weights, self.process, draws)

        return terms

    def flow_field(self) -> Any:
        self.backend.calls.append(MadeField(self.network, self.process, self.execution))

        def flow(x: NDArray[Any], log_snr: float, probes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
            self.backend.calls.append(Field(self.network, np.array(x), float(log_snr), np.array(probes)))
            squares = np.sum(probes * probes, axis=tuple(range(2, probes.ndim)))
            return FLOW_RATE * x, FLOW_RATE * squares

        return flow

    def sample(
        self,
        sampler: SamplerStep,
        x_T: NDArray[Any],
        noise: Callable[[int], NDArray[Any]] | None,
        keep: Sequence[int] = (),
    ) -> tuple[NDArray[Any], dict[int, NDArray[Any]]]:
        steps = range(self.process.num_steps, 0, -1)
        added = {} if noise is None else {t: np.array(noise(t)) for t in steps}
        x_0 = 0.5 * x_T + (np.mean(list(added.values()), axis=0) if added else 0.0)
        if self.backend.samples is not None:
            x_0 = self.backend.samples[: len(x_T)]
        self.backend.calls.append(
            ChainRun(
                self.network,
                self.process,
                sampler,
                self.execution,
                np.array(x_T),
                added,
                tuple(keep),
                np.array(x_0),
            )
        )
        return x_0, {t: np.full(x_T.shape, float(t)) for t in keep}

    def forward(self) -> Callable[[NDArray[Any], NDArray[np.int64]], NDArray[Any]]:
        channels = 2 if self.process.learns_variance else 1
        return lambda x_t, t: np.zeros((*x_t.shape[:-1], channels * x_t.shape[-1]))


class FakeBackend:
    """A module of `backends` in all that a study asks of one; see above for what it computes and records."""

    def __init__(self, name: str) -> None:
        self.__name__ = f"backends.{name}"
        self.name = name
        self.losses: LossesOf = of_everything
        self.samples: NDArray[np.float64] | None = None
        self.calls: list[Any] = []

    def describe(self, execution: Execution) -> dict[str, str]:
        return {"framework": self.name, "device": execution.device}

    def make_network(self, settings: NetworkSettings, weights: Weights, execution: Execution) -> FakeNetwork:
        network = FakeNetwork(settings, {name: np.array(array) for name, array in weights.items()}, execution)
        self.calls.append(network)
        return network

    def export_weights(self, network: FakeNetwork) -> Weights:
        return network.weights

    def place(self, network: FakeNetwork, process: ReverseProcess, execution: Execution) -> FakePlaced:
        return FakePlaced(self, network, process, execution)

    def make_group_trainer(
        self,
        settings: NetworkSettings,
        weights: Sequence[Weights],
        process: ReverseProcess,
        objectives: Sequence[str],
        recipe: TrainingRecipe,
        execution: Execution,
    ) -> FakeGroup:
        members = []
        for initial, objective in zip(weights, objectives, strict=True):
            copies = {name: np.array(array) for name, array in initial.items()}
            record = Trained(settings, copies, process, objective, recipe, execution, None, tuple(objectives))
            self.calls.append(record)
            members.append(FakeTrainer(self, record))
        return FakeGroup(members)

    def of(self, kind: type) -> list[Any]:
        """The calls of one kind, in order."""
        return [call for call in self.calls if isinstance(call, kind)]

    @property
    def trainings(self) -> list[Trained]:
        return self.of(Trained)

    @property
    def evaluations(self) -> list[Evaluation]:
        """One for every network whose bound terms were asked for."""
        return [Evaluation(made.network, made, self._calls_of(made.network)) for made in self.of(MadeTerms)]

    def _calls_of(self, network: FakeNetwork) -> list[Any]:
        first = next(i for i, call in enumerate(self.calls) if isinstance(call, MadeTerms) and call.network is network)
        return [
            call for call in self.calls[first:] if isinstance(call, Reported) or getattr(call, "network", 0) is network
        ]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The measuring of one network, its stages told apart by their order.

    Terms before the cell reports "floors" are the bound's; from there until a field is made, the floors'; then those
    of the data end of the flow, until it is integrated, and behind that the bound's of the flow's own examples.
    """

    network: FakeNetwork
    made: MadeTerms
    calls: list[Any]

    @property
    def bound(self) -> Draws:
        return joined(self._terms()["bound"])

    @property
    def floors(self) -> Draws:
        """x_0 one deviation above its mean given x_t, then as many below it; then, for data on levels, t = 1 again."""
        return joined(self._terms()["floors"])

    @property
    def flow_end(self) -> Draws:
        return joined(self._terms()["flow end"])

    @property
    def flow_bound(self) -> Draws:
        return joined(self._terms()["flow bound"])

    @property
    def fields(self) -> list[Field]:
        return [call for call in self.calls if isinstance(call, Field)]

    @property
    def chains(self) -> list[ChainRun]:
        return [call for call in self.calls if isinstance(call, ChainRun)]

    def _terms(self) -> dict[str, list[Draws]]:
        stage = "bound"
        stages: dict[str, list[Draws]] = {"bound": [], "floors": [], "flow end": [], "flow bound": []}
        for call in self.calls:
            if isinstance(call, Reported) and call.stage == "floors" and stage == "bound":
                stage = "floors"
            elif isinstance(call, MadeField):
                stage = "flow end"
            elif isinstance(call, Field):
                stage = "flow bound"
            elif isinstance(call, Terms):
                stages[stage].append(call.draws)
        return stages


def copied(draws: Draws) -> Draws:
    return replace(
        draws,
        x_0=np.array(draws.x_0),
        epsilon=np.array(draws.epsilon),
        t=np.array(draws.t),
        weight=np.array(draws.weight),
    )


def joined(batches: Sequence[Draws]) -> Draws:
    """Several batches as one, each without the copies of its last draw that fill it up."""
    parts = [unpadded(draws) for draws in batches]
    return Draws(*(np.concatenate([getattr(d, name) for d in parts]) for name in ("x_0", "epsilon", "t", "weight")))


def unpadded(draws: Draws) -> Draws:
    same = np.ones(len(draws.t), bool)
    for array in (draws.x_0, draws.epsilon, draws.t):
        same &= (array == array[-1:]).reshape(len(array), -1).all(axis=1)
    behind = np.flatnonzero(~same)  # all that differ from the last draw
    end = behind[-1] + 2 if behind.size else 1
    return Draws(*(array[:end] for array in (draws.x_0, draws.epsilon, draws.t, draws.weight)))
