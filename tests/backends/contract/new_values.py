"""A new objective and a new prediction, unregistered, in every function of a backend that takes one."""

from __future__ import annotations

import numpy as np
import pytest

from backends.recipe import TrainingRecipe
from core.learned_schedule import LearnedSchedule
from core.objectives import epsilon_mse, posterior_kl, training_loss
from core.reverse import reverse_process
from core.samplers import make_sampler
from core.schedules import linear
from tests.backends.contract.base import Contract
from tests.backends.reference import FLOAT64, make_draws, mlp_settings, noise_of, numpy_chain, random_weights
from tests.new_values import INVENTED_MSE, SCORE

RECIPE = TrainingRecipe(num_steps=20, warmup_steps=2)
SCHEDULE = linear(50, 1e-3, 0.1)


class NewValuesContract(Contract):
    """What numpy says of them, or a refusal before anything is trained."""

    def test_loss_and_gradient_of_a_new_objective(self):
        """The loss is numpy's, and its mean moves with the weights as the gradient says: a central difference."""
        process, settings = reverse_process(SCHEDULE, SCORE), mlp_settings()
        weights, direction = random_weights(settings), random_weights(settings, seed=1)
        draws = make_draws(process, (3,))

        def reference(size):
            moved = {name: weight + size * direction[name] for name, weight in weights.items()}
            network = self.backend.make_network(settings, moved, FLOAT64)
            return training_loss(process, INVENTED_MSE, *self.numpy_batch(network, process, draws))

        network = self.backend.make_network(settings, weights, FLOAT64)
        loss, gradient = self.backend.place(network, process, FLOAT64).loss_and_gradients(INVENTED_MSE, draws)
        np.testing.assert_allclose(loss, reference(0.0), rtol=1e-12)
        slope = sum(np.sum(gradient[name] * direction[name]) for name in direction)
        step = 1e-6
        difference = (reference(step).mean() - reference(-step).mean()) / (2 * step)
        assert slope == pytest.approx(difference, rel=1e-6)

    def test_a_trainer_records_and_remembers_its_loss(self):
        process = reverse_process(SCHEDULE, SCORE, levels=17)
        network, draws = self.small_network(process), make_draws(process, (3,))
        batch, output = self.numpy_batch(network, process, draws)
        trainer = self.backend.place(network, process, FLOAT64).trainer(INVENTED_MSE, RECIPE)
        losses = trainer.losses(trainer.step(draws))
        expected = training_loss(process, INVENTED_MSE, batch, output)
        np.testing.assert_allclose(INVENTED_MSE.remembers(losses), expected, rtol=1e-12)
        np.testing.assert_allclose(losses.epsilon_mse, epsilon_mse(process, batch, output), rtol=1e-12)
        np.testing.assert_allclose(losses.posterior_kl, posterior_kl(process, batch, output), rtol=1e-10)

    def test_members_of_a_group_may_have_it(self):
        """Each member is trained as alone, the new objective beside a known one."""
        process, settings = reverse_process(SCHEDULE, SCORE, levels=17), mlp_settings()
        objectives = [INVENTED_MSE, "posterior_kl", INVENTED_MSE]
        weights = [random_weights(settings, seed) for seed in range(3)]
        group = self.backend.make_group_trainer(settings, weights, process, objectives, RECIPE, FLOAT64)
        singles = [
            self.backend.place(self.backend.make_network(settings, start, FLOAT64), process, FLOAT64).trainer(
                objective, RECIPE
            )
            for start, objective in zip(weights, objectives, strict=True)
        ]
        for step in range(3):
            draws = [make_draws(process, (3,), seed=3 * step + member) for member in range(3)]
            together = group.losses(group.step(draws))
            for losses, single, of_member in zip(together, singles, draws, strict=True):
                np.testing.assert_allclose(losses, single.losses(single.step(of_member)), rtol=1e-9, atol=1e-10)

    def test_it_is_refused_where_it_could_not_train(self):
        """A learned variance, alone and in a group, and a learned schedule."""
        settings, learns = mlp_settings(), mlp_settings(learns_variance=True)
        process = reverse_process(SCHEDULE, variance="learned_range")
        network, message = self.small_network(process), "invented_mse has no gradient for a learned_range variance"
        with pytest.raises(ValueError, match=message):
            self.backend.place(network, process, FLOAT64).trainer(INVENTED_MSE, RECIPE)
        with pytest.raises(ValueError, match=message):
            self.backend.place(network, process, FLOAT64).loss_and_gradients(INVENTED_MSE, make_draws(process, (3,)))
        with pytest.raises(ValueError, match=message):
            self.backend.make_group_trainer(learns, [random_weights(learns)], process, [INVENTED_MSE], RECIPE, FLOAT64)
        learned, fixed = LearnedSchedule(SCHEDULE), reverse_process(SCHEDULE)
        network = self.backend.make_network(settings, random_weights(settings), FLOAT64)
        with pytest.raises(ValueError, match=r"a learned schedule needs posterior_kl, .* got invented_mse"):
            self.backend.place(network, fixed, FLOAT64).trainer(INVENTED_MSE, RECIPE, learned)

    def test_bound_terms_samples_and_flow_of_a_new_prediction(self):
        process = reverse_process(SCHEDULE, SCORE, levels=17)
        network, draws = self.small_network(process), make_draws(process, (3,))
        batch, output = self.numpy_batch(network, process, draws)
        mse, kl = self.backend.place(network, process, FLOAT64).bound_terms()(draws)
        np.testing.assert_allclose(mse, epsilon_mse(process, batch, output), rtol=1e-12)
        np.testing.assert_allclose(kl, posterior_kl(process, batch, output), rtol=1e-10)
        x = np.random.default_rng(0).standard_normal((4, 3))
        sampler = make_sampler("ancestral", clip=1.0)
        x_0, _ = self.backend.place(network, process, FLOAT64).sample(sampler, x, lambda t: noise_of(x.shape, t))
        np.testing.assert_allclose(x_0, numpy_chain(self.bound(network), process, sampler, x)[0], atol=1e-9)
        field, t = self.backend.place(network, process, FLOAT64).flow_field(), 7
        dx, _ = field(x, float(SCHEDULE.log_snr[t]), np.ones((1, *x.shape)))
        # dx / d log SNR = sigma^2 (x + score) / 2: Song et al. (2021), eq. 13, in the time of core.probability_flow.
        at_t = self.call(network, x, np.full(4, t))
        np.testing.assert_allclose(dx, 0.5 * SCHEDULE.one_minus_alpha_bar[t] * (x + at_t), rtol=1e-9, atol=1e-12)
