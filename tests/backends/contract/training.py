"""The trainer against the recipe written out in numpy, across interruptions, and as a thing that learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backends.interface import Draws, Execution, Weights
from backends.networks import NetworkSettings, initial_weights
from backends.recipe import TrainingRecipe
from core.objectives import OBJECTIVES
from core.reverse import ReverseProcess, reverse_process
from core.schedules import linear
from tests.backends.contract.base import Contract
from tests.backends.reference import (
    FLOAT32,
    FLOAT64,
    make_draws,
    mlp_settings,
    random_weights,
    recipe_by_hand,
    unet_settings,
    unit_scale_by_hand,
)

RECIPE = TrainingRecipe(num_steps=8, warmup_steps=2, learning_rate=1e-2, final_rate_fraction=0.1, ema_decay=0.27)
"""Two steps of warm-up; the third is on the cosine, and the first that the cap on the average holds: 4/13 > 0.27."""

CLIPPED_NOW_AND_THEN = {"epsilon_mse": 0.5, "posterior_kl": 1.0}
"""Norms within the range of a small network's gradients."""


def draws_for(process: ReverseProcess, count: int) -> list[Draws]:
    """Batches of six for `unet_settings`, the last with t = 1 among its steps and the others without."""
    batches = []
    for seed in range(count):
        draws = make_draws(process, unet_settings().shape, count=6, seed=seed)
        t = draws.t if seed == count - 1 else np.maximum(draws.t, 2)
        batches.append(replace(draws, t=t, weight=np.ones(6)))
    return batches


class TrainingContract(Contract):
    """One recipe, exact resumption, and errors that change nothing."""

    def unet_trainer(
        self,
        process: ReverseProcess,
        objective: str = "epsilon_mse",
        recipe: TrainingRecipe = RECIPE,
        execution: Execution = FLOAT64,
    ) -> Any:
        settings = unet_settings(process.learns_variance)
        network = self.backend.make_network(settings, random_weights(settings, size=0.1), execution)
        return self.backend.place(network, process, execution).trainer(objective, recipe)

    @pytest.mark.parametrize(
        ("objective", "variance", "clip_norm"),
        [
            ("epsilon_mse", "beta_tilde", 0.05),
            ("posterior_kl", "beta_tilde", 1.0),
            ("posterior_kl", "learned_diagonal", None),
            ("hybrid", "learned_range", 1.0),
            ("target_mse", "beta", 1e9),
        ],
    )
    def test_steps_follow_the_recipe(self, objective, variance, clip_norm):
        """Adam, clipping, warm-up and averaging as in `backends.recipe`.

        1e-9, because Adam divides by small numbers: the key bias of attention has no gradient but rounding.
        """
        process = reverse_process(linear(50, 1e-3, 0.1), variance=variance, levels=17)
        recipe = replace(RECIPE, clip_norm=clip_norm)
        trainer = self.unet_trainer(process, objective, recipe)
        batches = draws_for(process, 3)
        for draws in batches:
            trainer.step(draws)
        settings = unet_settings(process.learns_variance)
        self.check_follows(trainer, settings, process, objective, recipe, batches)

    def check_follows(
        self,
        trainer: Any,
        settings: NetworkSettings,
        process: ReverseProcess,
        objective: str,
        recipe: TrainingRecipe,
        batches: list[Draws],
    ) -> list[float]:
        """That the trainer's state after `batches` is the recipe's in numpy; by how much each gradient was clipped."""
        scale = unit_scale_by_hand(process, objective)

        def gradient_of(weights: Weights, draws: Draws) -> Weights:
            network = self.backend.make_network(settings, weights, FLOAT64)
            _, gradient = self.backend.place(network, process, FLOAT64).loss_and_gradients(objective, draws)
            return {name: scale * g for name, g in gradient.items()}

        parts, factors = recipe_by_hand(random_weights(settings, size=0.1), gradient_of, recipe, batches)
        assert trainer.step_count == len(batches)
        state = trainer.state()
        for part, expected in parts.items():
            for name in expected:
                np.testing.assert_allclose(state[f"{part}/{name}"], expected[name], rtol=1e-9, atol=1e-9)
        for ema, part in ((False, "weights"), (True, "ema")):
            for name, array in trainer.weights(ema=ema).items():
                np.testing.assert_array_equal(array, state[f"{part}/{name}"])
        return factors

    @pytest.mark.parametrize(
        ("objective", "prediction", "variance"),
        [("epsilon_mse", "epsilon", "beta_tilde"), ("posterior_kl", "v", "learned_range")],
    )
    def test_a_whole_training_follows_the_recipe(self, objective, prediction, variance):
        """From the first step of the warm-up past the end of the decay, with the average's cap reached on the way.

        Clipped in some steps and not in others.
        """
        process = reverse_process(linear(50, 1e-3, 0.1), prediction, variance, first_variance="beta")
        recipe = replace(RECIPE, num_steps=12, warmup_steps=4, ema_decay=0.4, clip_norm=CLIPPED_NOW_AND_THEN[objective])
        settings = mlp_settings(process.learns_variance)
        network = self.backend.make_network(settings, random_weights(settings, size=0.1), FLOAT64)
        trainer = self.backend.place(network, process, FLOAT64).trainer(objective, recipe)
        batches = [replace(make_draws(process, (3,), seed=seed), weight=np.ones(12)) for seed in range(14)]
        for draws in batches:
            trainer.step(draws)
        factors = self.check_follows(trainer, settings, process, objective, recipe, batches)
        assert 3 <= sum(factor < 1 for factor in factors) <= 11

    def test_step_weights_multiply_the_loss(self):
        """Zero weight on all but one example is training on that example, at 1/N of the rate of loss."""
        process = reverse_process(linear(50))
        recipe = replace(RECIPE, clip_norm=None)
        draws = draws_for(process, 1)[0]
        one = self.unet_trainer(process, recipe=recipe)
        one.step(replace(draws, weight=np.array([6.0, 0, 0, 0, 0, 0])))
        only = self.unet_trainer(process, recipe=recipe)
        only.step(replace(draws, x_0=draws.x_0[:1], epsilon=draws.epsilon[:1], t=draws.t[:1], weight=np.ones(1)))
        expected = only.state()
        for name, array in one.state().items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("objective", OBJECTIVES)
    def test_recorded_losses_are_the_bound_terms_before_the_step(self, objective):
        """Both losses are recorded whichever is trained, and with them the trained one."""
        variance = "learned_range" if objective == "hybrid" else "beta_tilde"
        process = reverse_process(linear(50), variance=variance, levels=17)
        network = self.small_network(process)
        draws = make_draws(process, (3,))
        mse, kl = self.backend.place(network, process, FLOAT64).bound_terms()(draws)
        trainer = self.backend.place(network, process, FLOAT64).trainer(objective, RECIPE)
        trained, _ = self.backend.place(network, process, FLOAT64).loss_and_gradients(objective, draws)
        recorded = trainer.losses(trainer.step(draws))
        np.testing.assert_allclose(recorded.epsilon_mse, mse, rtol=1e-13)
        np.testing.assert_allclose(recorded.posterior_kl, kl, rtol=1e-13)
        np.testing.assert_allclose(recorded.trained, trained, rtol=1e-13)

    def test_an_interrupted_run_ends_in_the_same_bits(self):
        """state() and load_state() into a new trainer change nothing, in float32 as in the default study."""
        process = reverse_process(linear(50), levels=17)
        batches = draws_for(process, 4)
        whole = self.unet_trainer(process, "posterior_kl", execution=FLOAT32)
        first = self.unet_trainer(process, "posterior_kl", execution=FLOAT32)
        for draws in batches[:2]:
            whole.step(draws)
            first.step(draws)
        second = self.unet_trainer(process, "posterior_kl", execution=FLOAT32)
        second.load_state(first.state())
        assert second.step_count == 2
        for draws in batches[2:]:
            np.testing.assert_array_equal(whole.losses(whole.step(draws)), second.losses(second.step(draws)))
        expected, found = whole.state(), second.state()
        assert expected.keys() == found.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)

    def test_state_is_flat_and_starts_with_zero_moments(self):
        """weights/, ema/, adam_m/, adam_v/ and step, of a trainer that has taken no step and of one that has."""
        process = reverse_process(linear(50))
        trainer = self.unet_trainer(process, execution=FLOAT32)
        names = set(trainer.weights())
        wanted = {f"{part}/{name}" for part in ("weights", "ema", "adam_m", "adam_v") for name in names} | {"step"}
        state = trainer.state()
        assert set(state) == wanted
        assert all(not state[f"{part}/{name}"].any() for part in ("adam_m", "adam_v") for name in names)
        trainer.step(draws_for(process, 1)[0])
        state = trainer.state()
        assert set(state) == wanted
        assert state["step"] == 1
        assert all(
            array.dtype == np.float32 and array.flags.c_contiguous for name, array in state.items() if name != "step"
        )
        assert state["adam_v/conv_in.weight"].all()

    def test_a_state_does_not_change_with_the_trainer_it_came_from(self):
        process = reverse_process(linear(50))
        trainer = self.unet_trainer(process)
        batches = draws_for(process, 2)
        trainer.step(batches[0])
        state = trainer.state()
        before = {name: array.copy() for name, array in state.items()}
        trainer.step(batches[1])
        for name, array in before.items():
            np.testing.assert_array_equal(state[name], array)

    @pytest.mark.parametrize("damage", ["missing", "unknown", "shape", "step"])
    def test_a_state_of_another_network_is_refused_whole(self, damage):
        process = reverse_process(linear(50))
        trainer, other = self.unet_trainer(process), self.unet_trainer(process)
        other.step(draws_for(process, 1)[0])
        state = other.state()
        if damage == "missing":
            del state["adam_v/conv_in.weight"]
        elif damage == "unknown":
            state["ema/conv_out.scale"] = np.ones(1)
        elif damage == "shape":
            state["adam_m/conv_in.bias"] = np.ones(3)
        else:
            del state["step"]
        before = trainer.state()
        with pytest.raises(ValueError, match=r"another network|has shape|no entry step") as caught:
            trainer.load_state(state)
        assert "\n" not in str(caught.value)
        for name, array in trainer.state().items():
            np.testing.assert_array_equal(array, before[name])

    @pytest.mark.parametrize("objective", ["epsilon_mse", "posterior_kl"])
    def test_training_lowers_the_loss_it_trains(self, objective):
        """A small MLP on two points learns to tell the noise, from the zero output where the scaled loss is about 1."""
        process = reverse_process(linear(50, 1e-3, 0.2))
        settings = mlp_settings()
        network = self.backend.make_network(settings, initial_weights(settings, 0), FLOAT32)
        recipe = TrainingRecipe(num_steps=300, warmup_steps=20, learning_rate=1e-2)
        trainer = self.backend.place(network, process, FLOAT32).trainer(objective, recipe)
        rng = np.random.default_rng(0)
        seen = []
        for _ in range(300):
            x_0 = rng.choice([-1.0, 1.0], (64, 1)) * np.ones(3)
            draws = Draws(x_0, rng.standard_normal((64, 3)), rng.integers(1, 51, 64), np.ones(64))
            losses = trainer.losses(trainer.step(draws))
            seen.append(losses[objective == "posterior_kl"].mean())
        assert np.mean(seen[-30:]) < 0.6 * np.mean(seen[:10])

    def test_divergence_is_seen_by_the_caller(self):
        """A loss that is not finite comes back as it is."""
        process = reverse_process(linear(50))
        settings = mlp_settings()
        weights = random_weights(settings)
        weights["linear_out.bias"][0] = np.nan
        network = self.backend.make_network(settings, weights, FLOAT32)
        trainer = self.backend.place(network, process, FLOAT32).trainer("epsilon_mse", RECIPE)
        losses = trainer.losses(trainer.step(make_draws(process, (3,))))
        assert np.isnan(losses.epsilon_mse).all()
        assert np.isnan(losses.posterior_kl).all()
        assert np.isnan(losses.trained).all()

    def test_an_objective_that_cannot_train_the_variance_is_refused(self):
        process = reverse_process(linear(10), variance="learned_range")
        with pytest.raises(ValueError, match="has no gradient for a learned_range variance"):
            self.unet_trainer(process, "epsilon_mse")
        with pytest.raises(ValueError, match="unknown objective 'elbo'"):
            self.unet_trainer(process, "elbo")
