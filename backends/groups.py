"""Training several networks as one program: the part of it that is the same in every framework.

A group has M members: networks of the same settings, each with its own initial weights, its own draws and its own
objective. The weights of all members are kept in one array of shape (M, P), where P is how many numbers one network
has: each member is a row, and within the row its weights follow each other, flattened, in the order of `weight_specs`.
Adam, clipping and the moving average are then a few operations on the whole array. They treat every row by itself, so
that a member is trained as it would be alone.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends import states
from backends.checks import check_training
from backends.interface import Draws, Weights
from backends.networks import NetworkSettings, check_weights, weight_specs
from core.objectives import Losses, Objective, unit_scale
from core.reverse import ReverseProcess


@dataclass(frozen=True)
class Part:
    """The rows first..last - 1 of the group's arrays: members with the same objective, and the scale of its loss."""

    objective: Objective
    scale: float
    first: int
    last: int


class Members:
    """The members of a group: which row of the arrays belongs to which of them, and which rows share an objective.

    Callers count members in the order in which they gave them. Rows are sorted by objective instead, so that members
    with the same objective are neighbours, and their losses can be computed together from one slice of the batch.
    """

    def __init__(
        self, settings: NetworkSettings, process: ReverseProcess, objectives: Sequence[str | Objective]
    ) -> None:
        if not objectives:
            raise ValueError("a group has at least one member, got none")
        of_member = [check_training(objective, process) for objective in objectives]
        self.settings, self.process = settings, process
        self.shapes = {name: spec.shape for name, spec in weight_specs(settings).items()}
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]
        self.order = sorted(range(len(objectives)), key=lambda member: of_member[member].name)
        self.row = {member: row for row, member in enumerate(self.order)}
        self.parts = []
        for objective, rows in itertools.groupby(range(len(self)), key=lambda row: of_member[self.order[row]]):
            first, *rest = rows
            self.parts.append(Part(objective, unit_scale(process, objective), first, first + 1 + len(rest)))

    def __len__(self) -> int:
        return len(self.order)

    def check_count(self, given: Sequence[Any], what: str) -> None:
        if len(given) != len(self):
            raise ValueError(f"a group of {len(self)} takes {what} for each of them, got {len(given)}")

    def joined(self, draws: Sequence[Draws]) -> Draws:
        """The draws of all members as one batch (M * N, ...): the N of the member in row 0, then those of row 1, ..."""
        self.check_count(draws, "draws")
        sizes = {len(of_member.t) for of_member in draws}
        if len(sizes) > 1:
            raise ValueError(f"the members of a group take batches of one size, got {sorted(sizes)}")
        ordered = [draws[member] for member in self.order]
        x_0, epsilon, t, weight = (
            np.concatenate([getattr(of_member, name) for of_member in ordered])
            for name in ("x_0", "epsilon", "t", "weight")
        )
        return replace(draws[0], x_0=x_0, epsilon=epsilon, t=t, weight=weight)

    def flat(self, named: Sequence[Weights]) -> NDArray[Any]:
        """The weights of all members as one array (M, P), from the weights of each by neutral name."""
        self.check_count(named, "weights")
        for weights in named:
            check_weights(self.settings, weights)
        rows = [np.concatenate([np.ravel(named[member][name]) for name in self.shapes]) for member in self.order]
        return np.stack(rows)

    def named(self, row: NDArray[Any]) -> Weights:
        """The weights of one member by neutral name, from its row (P,); the inverse of `flat`."""
        pieces = np.split(row, np.cumsum(self.sizes)[:-1])
        return {n: p.reshape(shape).copy() for (n, shape), p in zip(self.shapes.items(), pieces, strict=True)}

    def by_member(self, rows: NDArray[Any]) -> list[NDArray[Any]]:
        """The rows of an array (M, ...), in the order in which the members were given."""
        return [rows[self.row[member]] for member in range(len(self))]

    def losses(self, rows: Losses) -> list[Losses]:
        """The losses of each member's batch, from those of the joint batch (M * N,)."""
        by_member = (self.by_member(loss.reshape(len(self), -1)) for loss in rows)
        return [Losses(*losses) for losses in zip(*by_member, strict=True)]

    def loaded(self, given: Sequence[Mapping[str, NDArray[Any]]]) -> tuple[dict[str, NDArray[Any]], int]:
        """The training states of all members: each part as one array (M, P), and the step that they are all at.

        ValueError where a state is of another network, or the members are at different steps.
        """
        self.check_count(given, "a state")
        parts = {
            part: self.flat([states.part_of(state, part, self.settings) for state in given]) for part in states.PARTS
        }
        steps = {states.step_of(state) for state in given}
        if len(steps) > 1:
            raise ValueError(f"the members of a group are at the same step, got states of steps {sorted(steps)}")
        return parts, steps.pop()


class StackedTrainer(ABC):
    """The shared part of a `backends.interface.GroupTrainer`; a framework adds the update itself and its arrays.

    Nothing here mixes rows: a member whose loss stops being finite spoils its own row, and the others go on.
    """

    def __init__(self, members: Members) -> None:
        self.step_count = 0
        self._members = members

    def step(self, draws: Sequence[Draws]) -> Losses:
        """One optimiser step of every member; returns the losses without waiting for the device."""
        losses = self._update(self._members.joined(draws), self.step_count + 1)
        self.step_count += 1
        return losses

    def losses(self, handle: Losses) -> list[Losses]:
        return self._members.losses(Losses(*map(self._to_numpy, handle)))

    def weights(self, member: int, *, ema: bool = True) -> Weights:
        return self._named(self._rows()["ema" if ema else "weights"], member)

    def state(self, member: int) -> Weights:
        rows_of_parts = self._rows().items()
        return states.joined({part: self._named(rows, member) for part, rows in rows_of_parts}, self.step_count)

    def load_states(self, given: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Goes on from the members' states, or raises a ValueError in one line and changes nothing."""
        parts, step = self._members.loaded(given)
        self._load(parts, step)
        self.step_count = step

    def _named(self, rows: Any, member: int) -> Weights:
        return self._members.named(self._to_numpy(rows[self._members.row[member]]))

    @abstractmethod
    def _update(self, joined: Draws, step: int) -> Losses:
        """Takes optimiser step 1, 2, ... of all members on their joint batch; returns its losses (M * N,)."""

    @abstractmethod
    def _rows(self) -> Mapping[str, Any]:
        """The weights, their average and Adam's moments (`backends.states.PARTS`) on the device, (M, P) each."""

    @abstractmethod
    def _load(self, parts: Mapping[str, NDArray[Any]], step: int) -> None:
        """Replaces those by `parts`, (M, P) each, as they were after so many steps."""

    @abstractmethod
    def _to_numpy(self, x: Any) -> NDArray[Any]: ...
