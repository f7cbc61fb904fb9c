"""A group of networks trained as one program against the same networks trained one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backends.interface import Draws, Execution, GroupTrainer, Trainer
from backends.networks import NetworkSettings, weight_specs
from backends.recipe import TrainingRecipe
from core.reverse import ReverseProcess, reverse_process
from core.schedules import linear
from tests.backends.contract.base import Contract
from tests.backends.reference import FLOAT32, FLOAT64, make_draws, mlp_settings, random_weights, unet_settings

RECIPE = TrainingRecipe(num_steps=16, warmup_steps=3, learning_rate=1e-2, clip_norm=0.5, ema_decay=0.5)
"""In twenty steps the warm-up, the whole decay and its end, and from step 8 on the cap on the average."""
MIXED = ("posterior_kl", "epsilon_mse", "posterior_kl")


class GroupContract(Contract):
    """Members are what trainers of their own would make them, however they were interrupted."""

    largest: NetworkSettings = unet_settings()
    """The network whose members must not mix."""

    def group_and_singles(
        self,
        settings: NetworkSettings,
        process: ReverseProcess,
        objectives: Sequence[str] = MIXED,
        execution: Execution = FLOAT64,
        recipe: TrainingRecipe = RECIPE,
    ) -> tuple[GroupTrainer, list[Trainer]]:
        weights = [random_weights(settings, seed, size=0.1) for seed in range(len(objectives))]
        group = self.backend.make_group_trainer(settings, weights, process, objectives, recipe, execution)
        singles = [
            self.backend.place(self.backend.make_network(settings, one, execution), process, execution).trainer(
                objective, recipe
            )
            for one, objective in zip(weights, objectives, strict=True)
        ]
        return group, singles

    def batches(self, process: ReverseProcess, shape: tuple[int, ...], step: int, members: int = 3) -> list[Draws]:
        """The draws of each member at a step; in every third step one of them has t = 1."""
        given = [make_draws(process, shape, count=5, seed=10 * step + member) for member in range(members)]
        lowest = [1 + (step % 3 > 0 or member != 1) for member in range(members)]
        return [replace(draws, t=np.maximum(draws.t, least)) for draws, least in zip(given, lowest, strict=True)]

    def check_same(self, group: GroupTrainer, singles: Sequence[Trainer], atol: float) -> None:
        for member, single in enumerate(singles):
            found, expected = group.state(member), single.state()
            assert found.keys() == expected.keys()
            for name, array in expected.items():
                assert found[name].dtype == array.dtype
                np.testing.assert_allclose(found[name], array, rtol=0, atol=atol, err_msg=f"{name} of member {member}")
            for ema in (False, True):
                weights = group.weights(member, ema=ema)
                part = "ema" if ema else "weights"
                assert all(np.array_equal(weights[name], found[f"{part}/{name}"]) for name in weights)

    def test_points_are_trained_as_alone(self):
        self.check_trained_as_alone(mlp_settings())

    def test_signals_are_trained_as_alone(self):
        self.check_trained_as_alone(unet_settings())

    def check_trained_as_alone(self, settings: NetworkSettings) -> None:
        """Twenty steps in float64, objectives mixed, gradients clipped: only the order of sums differs.

        1e-9 on numbers near 1, because Adam divides by small ones.
        """
        process = reverse_process(linear(50, 1e-3, 0.1), levels=17)
        group, singles = self.group_and_singles(settings, process)
        for step in range(20):
            draws = self.batches(process, settings.shape, step)
            found = group.losses(group.step(draws))
            for single, one, losses in zip(singles, draws, found, strict=True):
                np.testing.assert_allclose(losses, single.losses(single.step(one)), rtol=1e-9, atol=1e-10)
        assert group.step_count == 20
        self.check_same(group, singles, atol=1e-9)

    def test_objectives_of_a_learned_variance_share_a_group(self):
        process = reverse_process(linear(50, 1e-3, 0.1), variance="learned_range")
        settings, objectives = mlp_settings(learns_variance=True), ("hybrid", "posterior_kl")
        group, singles = self.group_and_singles(settings, process, objectives, recipe=replace(RECIPE, clip_norm=None))
        for step in range(3):
            draws = self.batches(process, settings.shape, step, members=2)
            group.step(draws)
            for single, one in zip(singles, draws, strict=True):
                single.step(one)
        self.check_same(group, singles, atol=1e-10)

    def test_members_go_on_alone_and_together_again(self):
        """A group's states load into single trainers and theirs into a group, and nothing is lost on the way."""
        settings, process = mlp_settings(), reverse_process(linear(50))
        group, singles = self.group_and_singles(settings, process)
        for step in range(2):
            group.step(self.batches(process, settings.shape, step))
        for member, single in enumerate(singles):
            single.load_state(group.state(member))
            assert single.step_count == 2
        self.check_same(group, singles, atol=0)
        again, _ = self.group_and_singles(settings, process)
        again.load_states([single.state() for single in singles])
        assert again.step_count == 2
        self.check_same(again, singles, atol=0)
        for step in range(2, 4):
            draws = self.batches(process, settings.shape, step)
            for found, expected in zip(again.losses(again.step(draws)), group.losses(group.step(draws)), strict=True):
                np.testing.assert_array_equal(found, expected)
            for single, one in zip(singles, draws, strict=True):
                single.step(one)
        self.check_same(again, singles, atol=1e-10)

    def test_a_diverging_member_spoils_no_other(self):
        """Weights that are not finite make losses that are not, in their own row alone."""
        settings = self.largest
        process = reverse_process(linear(50))
        group, singles = self.group_and_singles(settings, process, execution=FLOAT32)
        states: list[dict[str, Any]] = [group.state(member) for member in range(3)]
        last = list(weight_specs(settings))[-1]
        states[1][f"weights/{last}"][0] = np.nan
        group.load_states(states)
        for step in range(3):
            draws = self.batches(process, settings.shape, step)
            found = group.losses(group.step(draws))
            assert np.isnan(found[1]).all()
            for member in (0, 2):
                expected = singles[member].losses(singles[member].step(draws[member]))
                np.testing.assert_allclose(found[member], expected, rtol=1e-3)
        assert np.isnan(group.weights(1)[last]).all()

    def test_what_does_not_fit_is_refused(self):
        settings, process = mlp_settings(), reverse_process(linear(50))
        group, _ = self.group_and_singles(settings, process)
        draws = self.batches(process, settings.shape, 0)
        with pytest.raises(ValueError, match="a group of 3 takes draws for each of them, got 2"):
            group.step(draws[:2])
        with pytest.raises(ValueError, match=r"batches of one size, got \[5, 12\]"):
            group.step([make_draws(process, (3,)), *draws[1:]])
        states = [group.state(member) for member in range(3)]
        before = [group.state(member) for member in range(3)]
        group.step(draws)
        with pytest.raises(ValueError, match=r"at the same step, got states of steps \[0, 1\]"):
            group.load_states([*states[:2], group.state(2)])
        with pytest.raises(ValueError, match="belong to another network"):
            group.load_states([{**state, "ema/other": np.ones(1)} for state in states])
        with pytest.raises(ValueError, match="no entry step"):
            group.load_states([{k: v for k, v in state.items() if k != "step"} for state in states])
        assert group.step_count == 1
        assert np.any(group.state(0)["weights/linear_out.bias"] != before[0]["weights/linear_out.bias"])
        with pytest.raises(ValueError, match="at least one member"):
            self.group_and_singles(settings, process, ())
        with pytest.raises(ValueError, match="unknown objective 'elbo'"):
            self.group_and_singles(settings, process, ("elbo",))
