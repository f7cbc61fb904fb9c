"""Training by `backends.recipe`: one optimiser step is noise, network, loss, gradient, clipping, Adam, average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from backends.interface import Draws, Execution, Weights
from backends.learned import schedule_parts
from backends.networks import check_weights
from backends.recipe import TrainingRecipe
from backends.torch.arrays import maybe_compiled, namespace, to_numpy
from backends.torch.likelihood import DeviceDraws, check_draws, check_network, losses, process_at, run_batch, upload
from backends.torch.network import Network
from backends.torch.schedule import TrainedSchedule
from core.learned_schedule import LearnedSchedule, check_learnable
from core.objectives import check_objective, unit_scale
from core.reverse import ReverseProcess
from core.schedules import Schedule

Handle = tuple[Tensor, Tensor]
"""epsilon_mse and posterior_kl (N,), still on the device."""


class TorchTrainer:
    """A network in training (`backends.interface.Trainer`). Its weights are changed in place.

    A loss that stops being finite is neither hidden nor an error here: it is in the handle that `step` returns.
    """

    def __init__(
        self,
        network: Network,
        process: ReverseProcess,
        objective: str,
        recipe: TrainingRecipe,
        execution: Execution,
        learned: LearnedSchedule | None = None,
    ) -> None:
        check_objective(objective, process.variance)
        check_network(network, process)
        self.step_count = 0
        self._network, self._process, self._objective = network, process, objective
        self._recipe, self._execution = recipe, execution
        self._xp = namespace(execution)
        self._cast = process.cast(self._xp.asarray)
        self._scale = unit_scale(process, objective)
        self._weights: dict[str, nn.Parameter] = dict(network.named_parameters())
        self._parameters = list(self._weights.values())
        self._average = [weight.detach().clone() for weight in self._parameters]
        self._adam = torch.optim.Adam(
            self._parameters,
            lr=recipe.learning_rate,
            betas=(recipe.adam_beta_1, recipe.adam_beta_2),
            eps=recipe.adam_epsilon,
            fused=True,
        )
        self._learned, self._schedule = learned, None
        if learned is not None:
            check_learnable(objective)
            self._schedule = TrainedSchedule(learned, recipe, self._xp)
        self._run = maybe_compiled(self._forward, execution)

    def _forward(self, process: ReverseProcess, draws: DeviceDraws) -> tuple[Tensor, Tensor, Tensor]:
        """What is minimised (), and both losses (N,)."""
        batch, output = run_batch(self._network, process, draws, self._xp, self._execution)
        trained, mse, kl = losses(process, self._objective, batch, output, self._xp)
        return torch.mean(draws.weight * trained) * self._scale, mse, kl

    def step(self, draws: Draws) -> Handle:
        """One optimiser step; returns the two losses without waiting for the device."""
        check_draws(draws, self._network.settings.shape, self._process)
        # Compiled, one process serves every batch: a second one would be a second compilation.
        process = self._cast if self._execution.compile else process_at(self._cast, draws.t)
        on_device = upload(self._xp, draws, self._process)
        if self._schedule is not None:
            process = self._schedule.process(process)
        minimised, mse, kl = self._run(process, on_device)
        if self._schedule is not None:
            minimised = minimised + self._scale * self._schedule.prior_loss(on_device.x_0)
        self._adam.zero_grad(set_to_none=True)
        minimised.backward()
        self._update(self.step_count + 1)
        self.step_count += 1
        return mse, kl

    def _update(self, step: int) -> None:
        recipe = self._recipe
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, recipe.clip_norm)
        for group in self._adam.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        self._adam.step()
        get_ema_multi_avg_fn(recipe.ema_decay_at(step))(self._average, self._parameters, step)
        if self._schedule is not None:
            self._schedule.update(step)

    def losses(self, handle: Handle) -> tuple[NDArray[Any], NDArray[Any]]:
        mse, kl = handle
        return to_numpy(mse), to_numpy(kl)

    def weights(self, *, ema: bool = True) -> Weights:
        return self._named(self._average if ema else self._parameters)

    def schedule(self, *, ema: bool = True) -> Schedule:
        return self._process.schedule if self._schedule is None else self._schedule.frozen(ema=ema)

    def state(self) -> Weights:
        moments = {"adam_m": "exp_avg", "adam_v": "exp_avg_sq"}
        parts = {"weights": self.weights(ema=False), "ema": self.weights()}
        for part, key in moments.items():
            # Adam keeps nothing of a weight before its first step, where both moments are 0.
            parts[part] = self._named(self._adam.state[w].get(key, torch.zeros_like(w)) for w in self._parameters)
        flat = {f"{part}/{name}": array for part, named in parts.items() for name, array in named.items()}
        learned = {} if self._schedule is None else self._schedule.state()
        return {**flat, **learned, "step": np.array(self.step_count, dtype=np.int64)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from `state`, or raises a ValueError in one line and changes nothing."""
        parts = {part: self._part(state, part) for part in ("weights", "ema", "adam_m", "adam_v")}
        schedule = schedule_parts(self._learned, state)
        if "step" not in state:
            raise ValueError("this training state has no entry step; it is not one that a trainer's state() made")
        step = int(state["step"])
        with torch.no_grad():
            for part, kept in (("weights", self._parameters), ("ema", self._average)):
                for tensor, new in zip(kept, parts[part], strict=True):
                    tensor.copy_(new)
        moments = zip(parts["adam_m"], parts["adam_v"], strict=True)
        adam = {
            i: {"step": torch.tensor(float(step)), "exp_avg": m, "exp_avg_sq": v} for i, (m, v) in enumerate(moments)
        }
        self._adam.load_state_dict({"state": adam, "param_groups": self._adam.state_dict()["param_groups"]})
        if self._schedule is not None:
            self._schedule.load_state(schedule, step)
        self.step_count = step

    def _part(self, state: Mapping[str, NDArray[Any]], part: str) -> list[Tensor]:
        """The arrays "part/NAME" in the order and the memory layout of the weights, which fused Adam relies on."""
        prefix = f"{part}/"
        named = {name.removeprefix(prefix): np.asarray(state[name]) for name in state if name.startswith(prefix)}
        check_weights(self._network.settings, named)
        return [
            torch.empty_like(weight, requires_grad=False).copy_(self._xp.asarray(named[name]))
            for name, weight in self._weights.items()
        ]

    def _named(self, tensors: Iterable[Tensor]) -> Weights:
        return {name: to_numpy(tensor) for name, tensor in zip(self._weights, tensors, strict=True)}


def make_trainer(
    network: Network,
    process: ReverseProcess,
    objective: str,
    recipe: TrainingRecipe,
    execution: Execution,
    learned: LearnedSchedule | None = None,
) -> TorchTrainer:
    """A trainer of `network`, which is trained in place, and of the schedule where it is `learned`."""
    return TorchTrainer(network, process, objective, recipe, execution, learned)
