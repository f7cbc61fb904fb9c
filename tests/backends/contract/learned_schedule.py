"""The forward schedule in training: its gradient, its state, and that it lowers the bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backends.interface import Draws
from backends.networks import MLPSettings, initial_weights
from backends.recipe import TrainingRecipe
from core.bounds import prior_kl
from core.learned_schedule import LearnedSchedule
from core.objectives import noised_batch, training_loss
from core.reverse import ReverseProcess, reverse_process
from core.schedules import linear
from tests.backends.contract.base import Contract
from tests.backends.reference import FLOAT32, FLOAT64, make_draws, unit_scale_by_hand

RECIPE = TrainingRecipe(num_steps=8, warmup_steps=2, learning_rate=1e-2, clip_norm=None)
START = linear(20, 1e-3, 0.5)
CASES = [
    ("epsilon", "beta_tilde", 17, "next"),
    ("mean", "learned_diagonal", None, "beta"),
    ("v", "learned_range", None, "next"),
    ("x_0", "beta", 17, "beta"),
]


def family_of(prediction: str, variance: str, levels: int | None, first_variance: str) -> ReverseProcess:
    return reverse_process(START, prediction, variance, levels=levels, first_variance=first_variance)


def points(count: int, seed: int) -> NDArray[np.float64]:
    """Eight tight clusters on a circle."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * rng.integers(0, 8, count) / 8
    return 1.3 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.1 * rng.standard_normal((count, 2))


class LearnedScheduleContract(Contract):
    """A `LearnedSchedule` beside the network, by one recipe."""

    def trainer(self, family: ReverseProcess, learned: LearnedSchedule | None, execution: Any = FLOAT64) -> Any:
        network = self.small_network(family, execution)
        return self.backend.place(network, family, execution).trainer("posterior_kl", RECIPE, learned)

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_the_gradient_is_that_of_the_bound(self, case):
        """Against central differences of the same loss in numpy, L_T and the way through x_t included."""
        family, learned = family_of(*case), LearnedSchedule(START, max_knots=4)
        parameters = np.linspace(-0.6, 0.7, learned.size)
        draws = replace(make_draws(family, (3,)), weight=np.linspace(0.5, 1.5, 12))
        network = self.small_network(family)
        trainer = self.backend.place(network, family, FLOAT64).trainer("posterior_kl", RECIPE, learned)
        trainer.load_state({**trainer.state(), "schedule/weights": parameters})

        def loss(at: NDArray[np.float64]) -> float:
            steps = learned.steps(family, at)
            batch = noised_batch(steps, draws.x_0, draws.epsilon, draws.t)
            output = self.call(network, batch.x_t, draws.t)
            trained = draws.weight * training_loss(steps, "posterior_kl", batch, output)
            return float(np.mean(trained) + np.mean(learned.prior_loss(at, draws.x_0)))

        size = 1e-5
        expected = [(loss(parameters + size * row) - loss(parameters - size * row)) / (2 * size) for row in np.eye(6)]
        trainer.step(draws)
        # Adam's first moment, from 0, is the gradient's share of it.
        scale = unit_scale_by_hand(family, "posterior_kl")
        gradient = trainer.state()["schedule/adam_m"] / (1 - RECIPE.adam_beta_1) / scale
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())

    def test_an_interrupted_run_ends_in_the_same_schedule(self):
        """state() and load_state() into a new trainer change nothing; the average is what is frozen."""
        family, learned = family_of(*CASES[1]), LearnedSchedule(START)
        batches = [make_draws(family, (3,), seed=seed) for seed in range(4)]
        whole, second = (self.trainer(family, learned, FLOAT32) for _ in range(2))
        for draws in batches[:2]:
            whole.step(draws)
        second.load_state(whole.state())
        for draws in batches[2:]:
            np.testing.assert_array_equal(whole.losses(whole.step(draws)), second.losses(second.step(draws)))
        state, found = whole.state(), second.state()
        assert state.keys() == found.keys()
        for name, array in state.items():
            np.testing.assert_array_equal(found[name], array)
        for ema, part in ((True, "ema"), (False, "weights")):
            assert np.any(state[f"schedule/{part}"])
            expected = learned.frozen(state[f"schedule/{part}"])
            np.testing.assert_array_equal(whole.schedule(ema=ema).log_snr, expected.log_snr)

    def test_a_fixed_schedule_stays(self):
        """Without a learned schedule there is none in the state, and `schedule()` is the process's own."""
        family = family_of(*CASES[0])
        trainer = self.trainer(family, None)
        assert trainer.schedule() is family.schedule
        assert not [name for name in trainer.state() if name.startswith("schedule/")]

    def test_what_does_not_fit_is_refused(self):
        """An objective that is not the bound, another chain, and the state of another kind of training."""
        family, learned = family_of(*CASES[0]), LearnedSchedule(START)
        network = self.small_network(family)
        with pytest.raises(ValueError, match="a learned schedule needs posterior_kl"):
            self.backend.place(network, family, FLOAT64).trainer("epsilon_mse", RECIPE, learned)
        fixed, moving = self.trainer(family, None), self.trainer(family, learned)
        for trainer, other in ((fixed, moving), (moving, fixed)):
            with pytest.raises(ValueError, match="give the trainer the schedule that the state was trained with"):
                trainer.load_state(other.state())
            assert trainer.step_count == 0
        with pytest.raises(ValueError, match="the learned schedule has 10 steps, the process 20"):
            self.trainer(family, LearnedSchedule(linear(10))).step(make_draws(family, (3,)))
        with pytest.raises(ValueError, match="train a process on the schedule that learning starts from"):
            self.trainer(family, LearnedSchedule(linear(20)))

    def trained_bound(self, learned: LearnedSchedule | None) -> tuple[float, ReverseProcess]:
        """Nats per point of held-out points, after a short training, and the process."""
        family = reverse_process(START, "epsilon", "learned_diagonal")
        settings = MLPSettings((2,), width=48, depth=2, learns_variance=True)
        recipe = TrainingRecipe(num_steps=300, warmup_steps=20, learning_rate=5e-3, ema_decay=0.98)
        network = self.backend.make_network(settings, initial_weights(settings, 0), FLOAT32)
        trainer = self.backend.place(network, family, FLOAT32).trainer("posterior_kl", recipe, learned)
        for k in range(300):
            rng = np.random.default_rng(k)
            t = rng.permutation(np.arange(120) % 20 + 1)
            trainer.step(Draws(points(120, 10_000 + k), rng.standard_normal((120, 2)), t, np.ones(120)))
        process = reverse_process(trainer.schedule(), family.prediction, family.variance)
        trained = self.backend.make_network(settings, trainer.weights(), FLOAT32)
        x_0, rng = points(500, 1), np.random.default_rng(1)
        terms = self.backend.place(trained, process, FLOAT32).bound_terms()
        total = prior_kl(process.schedule, x_0).mean()
        for t in range(1, 21):
            draws = Draws(x_0, rng.standard_normal(x_0.shape), np.full(500, t), np.ones(500))
            total += terms(draws)[1].mean()
        return float(total), process

    def test_a_learned_schedule_lowers_the_bound(self):
        """Twenty steps on eight clusters: at least 0.1 nats per point below the schedule it started from."""
        fixed, _ = self.trained_bound(None)
        learned, process = self.trained_bound(LearnedSchedule(START))
        assert learned < fixed - 0.1
        assert np.all(np.diff(process.schedule.log_snr[1:]) < 0)
