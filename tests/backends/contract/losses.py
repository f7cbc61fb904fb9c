"""Losses, bound terms and gradients, held to the numpy execution of `core` and to finite differences."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.interface import Backend, Execution, PlacedModel
from core.objectives import OBJECTIVES, epsilon_mse, posterior_kl, training_loss
from core.predictions import PREDICTIONS
from core.reverse import reverse_process
from core.schedules import cosine, linear
from core.variances import VARIANCES
from tests.backends.contract.base import Contract
from tests.backends.reference import (
    FLOAT32,
    FLOAT64,
    TRAINABLE,
    TRAINS_KL,
    make_draws,
    mlp_settings,
    random_weights,
    trainable,
    unet_settings,
)

# float64: the same operations in another order. float32: 1e-5 of a loss that is a sum of squares.
TOLERANCES = [(FLOAT64, 1e-12), (FLOAT32, 1e-5)]


LINEAR = reverse_process(linear(100))


def functions_of(protocol: type) -> dict[str, Any]:
    return {name: f for name, f in vars(protocol).items() if inspect.isfunction(f) and not name.startswith("_")}


class LossesContract(Contract):
    """Numbers that are the reference's, at every step, and bad input refused in one line."""

    def test_the_module_is_the_contract(self):
        """Every function of `Backend` and method of `PlacedModel`, with its parameters; of functions, no other."""
        model = self.backend.place(self.small_network(LINEAR), LINEAR, FLOAT64)
        assert set(self.backend.__all__) == set(functions_of(Backend))
        assert (model.process, model.execution) == (LINEAR, FLOAT64)
        for protocol, owner in ((Backend, self.backend), (PlacedModel, model)):
            for name, function in functions_of(protocol).items():
                parameters = list(inspect.signature(function).parameters.values())[1:]
                ours = inspect.signature(getattr(owner, name)).parameters.values()
                assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in parameters]

    def test_a_model_on_another_process_keeps_its_network(self):
        """The terms are those of the other process, and the model itself is as it was."""
        network, draws = self.small_network(LINEAR), make_draws(reverse_process(linear(100).respaced(5)), (3,))
        model = self.backend.place(network, LINEAR, FLOAT64)
        respaced = reverse_process(linear(100).respaced(5))
        other = model.on(respaced)
        assert other.network is network
        assert (model.process, other.process, other.execution) == (LINEAR, respaced, FLOAT64)
        batch, output = self.numpy_batch(network, respaced, draws)
        mse, kl = other.bound_terms()(draws)
        np.testing.assert_allclose(mse, epsilon_mse(respaced, batch, output), rtol=1e-12)
        np.testing.assert_allclose(kl, posterior_kl(respaced, batch, output), rtol=1e-12)
        with pytest.raises(ValueError, match="needs a network with learns_variance=True, got False"):
            model.on(reverse_process(linear(100), variance="learned_range"))

    @pytest.mark.parametrize("levels", [None, 17])
    @pytest.mark.parametrize(("execution", "tolerance"), TOLERANCES)
    @pytest.mark.parametrize("prediction", PREDICTIONS)
    @pytest.mark.parametrize("variance", VARIANCES)
    def test_losses_and_bound_terms_are_those_of_the_reference(
        self, prediction, variance, execution, tolerance, levels
    ):
        """Same maths, same outputs: each loss per example agrees with numpy to rounding."""
        process = reverse_process(linear(100), prediction, variance, levels=levels)
        network = self.small_network(process, execution)
        draws = make_draws(process, (3,))
        batch, output = self.numpy_batch(network, process, draws)
        mse, kl = self.backend.place(network, process, execution).bound_terms()(draws)
        assert mse.dtype == kl.dtype == execution.dtype
        np.testing.assert_allclose(mse, epsilon_mse(process, batch, output), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(kl, posterior_kl(process, batch, output), rtol=tolerance, atol=tolerance)
        for objective in OBJECTIVES:
            if trainable(variance, objective):
                loss, _ = self.backend.place(network, process, execution).loss_and_gradients(objective, draws)
                expected = training_loss(process, objective, batch, output)
                np.testing.assert_allclose(loss, expected, rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("learned", [False, True])
    def test_losses_of_a_unet_are_those_of_the_reference(self, learned):
        """Channels last at the edge: nothing is permuted on the way to the loss."""
        shape = unet_settings(learned)
        process = reverse_process(cosine(50), "v", "learned_range" if learned else "beta", levels=17)
        network = self.backend.make_network(shape, random_weights(shape), FLOAT64)
        draws = make_draws(process, shape.shape)
        batch, output = self.numpy_batch(network, process, draws)
        mse, kl = self.backend.place(network, process, FLOAT64).bound_terms()(draws)
        np.testing.assert_allclose(mse, epsilon_mse(process, batch, output), rtol=1e-12)
        np.testing.assert_allclose(kl, posterior_kl(process, batch, output), rtol=1e-12)

    @pytest.mark.parametrize("variance", VARIANCES)
    def test_bound_terms_without_step_1_are_the_same(self, variance):
        """Whether any example is at t = 1, where K levels need a costly decoder, changes nothing for the others."""
        process = reverse_process(linear(100), variance=variance, levels=17)
        network = self.small_network(process)
        draws = make_draws(process, (3,))
        terms = self.backend.place(network, process, FLOAT64).bound_terms()
        later = draws.t > 1
        some = replace(draws, **{name: getattr(draws, name)[later] for name in ("x_0", "epsilon", "t", "weight")})
        np.testing.assert_allclose(terms(some)[1], terms(draws)[1][later], rtol=1e-13)

    @settings(max_examples=15, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow])
    @given(
        st.sampled_from(TRAINABLE),
        st.sampled_from([*PREDICTIONS]),
        st.sampled_from([None, 17]),
        st.integers(0, 2**31),
    )
    def test_gradients_are_the_slopes_of_the_reference_loss(self, pair, prediction, levels, seed):
        """g . d = (L(w + h d) - L(w - h d)) / 2h for a random direction d, with L by numpy; t = 1 and T included."""
        variance, objective = pair
        process = reverse_process(linear(20, 1e-3, 0.3), prediction, variance, levels=levels)
        shape = mlp_settings(process.learns_variance)
        weights, draws = random_weights(shape, seed), make_draws(process, (3,), seed=seed)
        rng = np.random.default_rng(seed)
        direction = {name: rng.standard_normal(w.shape) for name, w in weights.items()}
        h = 1e-5

        def output_at(scale: float) -> tuple:
            moved = {name: w + scale * direction[name] for name, w in weights.items()}
            return self.numpy_batch(self.backend.make_network(shape, moved, FLOAT64), process, draws)

        def loss(scale: float) -> float:
            batch, output = output_at(scale)
            if objective == "hybrid":  # the mean is detached in its second term: hold it where it is
                held, _ = process.split(output_at(0)[1])
                _, value = process.split(output)
                vlb = training_loss(process, objective, batch, np.concatenate([held, value], -1))
                at_held = epsilon_mse(process, batch, np.concatenate([held, value], -1))
                return float(np.mean(vlb - at_held + epsilon_mse(process, batch, output)))
            return float(np.mean(training_loss(process, objective, batch, output)))

        network = self.backend.make_network(shape, weights, FLOAT64)
        _, gradients = self.backend.place(network, process, FLOAT64).loss_and_gradients(objective, draws)
        slope = sum(float(np.sum(gradients[name] * direction[name])) for name in weights)
        assert slope == pytest.approx((loss(h) - loss(-h)) / (2 * h), rel=1e-5, abs=1e-6 * (1 + abs(loss(0))))

    @pytest.mark.parametrize("levels", [None, 2, 17, 256])
    @pytest.mark.parametrize(("variance", "objective"), TRAINS_KL)
    def test_kl_gradients_are_finite_at_every_step(self, variance, objective, levels):
        """No NaN from a branch not taken, for outputs of 0 and for those hundreds of sigmas off, in float32.

        A learned variance is kept within exp(+-20) of its floor: far beyond, its true loss overflows.
        """
        process = reverse_process(linear(1000), variance=variance, levels=levels)
        for size in (0.0, 0.3) if process.learns_variance else (0.0, 0.3, 0.8):
            network = self.small_network(process, FLOAT32, size)
            draws = make_draws(process, (3,), count=20)
            draws = replace(draws, t=np.tile([1, 2, 500, 999, 1000], 4))
            loss, gradients = self.backend.place(network, process, FLOAT32).loss_and_gradients(objective, draws)
            assert np.isfinite(loss).all()
            assert all(np.isfinite(gradient).all() for gradient in gradients.values())

    def test_a_weight_that_no_loss_reaches_has_gradient_zero(self):
        """The hybrid's and the KL's gradients have every name, also those of weights without influence."""
        process = reverse_process(linear(10), levels=2)
        network = self.small_network(process, size=0.0)
        draws = make_draws(process, (3,))
        _, gradients = self.backend.place(network, process, FLOAT64).loss_and_gradients("epsilon_mse", draws)
        assert gradients.keys() == self.backend.export_weights(network).keys()
        assert not gradients["linear_in.weight"].any()

    def test_a_respaced_network_is_told_the_steps_it_was_trained_on(self):
        """At the last of 5 steps of 100 the network sees t = 100."""
        process = reverse_process(linear(100).respaced(5))
        network = self.small_network(process)
        draws = make_draws(process, (3,))
        batch, output = self.numpy_batch(network, process, draws)  # which is told schedule.steps[t]
        assert process.schedule.steps[5] == 100
        _, kl = self.backend.place(network, process, FLOAT64).bound_terms()(draws)
        np.testing.assert_allclose(kl, posterior_kl(process, batch, output), rtol=1e-12)

    def test_bfloat16_is_the_arithmetic_of_the_network_alone(self):
        """Losses stay float32, within the 8 bits of the network's arithmetic."""
        process = reverse_process(linear(100))
        execution = Execution(device="cpu", dtype="bfloat16")
        draws = make_draws(process, (3,))
        mse, _ = self.backend.place(self.small_network(process, execution), process, execution).bound_terms()(draws)
        exact, _ = self.backend.place(self.small_network(process), process, FLOAT64).bound_terms()(draws)
        assert mse.dtype == np.float32
        assert 1e-6 < np.max(np.abs(mse - exact) / exact) < 0.1

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"t": np.full(12, 0)}, "steps run from 1 to 100, got 0; step 0 is the data"),
            ({"t": np.full(12, 101)}, "steps run from 1 to 100, got 101"),
            ({"t": np.full(12, 1.5)}, "steps are integers"),
            ({"x_0": np.zeros((12, 4))}, r"x_0 has shape \(12, 3\)"),
            ({"epsilon": np.zeros((11, 3))}, r"epsilon has shape \(12, 3\)"),
            ({"x_0": np.full((12, 3), np.nan)}, "x_0 is finite"),
            ({"epsilon": np.full((12, 3), np.inf)}, "epsilon is finite"),
            ({"weight": np.ones(3)}, "weight has one value per step"),
        ],
    )
    def test_bad_draws_are_one_line_errors(self, change, message):
        process = reverse_process(linear(100))
        network = self.small_network(process)
        draws = replace(make_draws(process, (3,)), **change)
        for use in (
            self.backend.place(network, process, FLOAT64).bound_terms(),
            lambda d: self.backend.place(network, process, FLOAT64).loss_and_gradients("epsilon_mse", d),
        ):
            with pytest.raises(ValueError, match=message) as caught:
                use(draws)
            assert "\n" not in str(caught.value)

    def test_a_network_without_the_process_s_variance_is_refused(self):
        network = self.small_network(reverse_process(linear(10)))
        process = reverse_process(linear(10), variance="learned_range")
        with pytest.raises(ValueError, match="needs a network with learns_variance=True, got False"):
            self.backend.place(network, process, FLOAT64).bound_terms()
