"""The trainer in Keras on TensorFlow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from core.reverse import reverse_process
from core.schedules import linear
from tests.backends.contract.training import RECIPE, TrainingContract, draws_for
from tests.backends.keras.helpers import OnKeras
from tests.backends.reference import FLOAT32, FLOAT64, make_draws

pytestmark = pytest.mark.keras


class TestTraining(OnKeras, TrainingContract):
    """What every backend does, as graphs too."""

    @pytest.mark.usefixtures("graphs")  # hundreds of steps, of one graph
    @pytest.mark.parametrize("objective", ["epsilon_mse", "posterior_kl"])
    def test_training_lowers_the_loss_it_trains(self, objective):
        super().test_training_lowers_the_loss_it_trains(objective)

    @pytest.mark.usefixtures("graphs")
    @pytest.mark.parametrize("xla", [False, True], ids=["graph", "XLA"])
    def test_a_compiled_step_is_the_op_by_op_one(self, xla):
        """Three steps in float64, to the order of sums; and the same graph serves another batch size."""
        process = reverse_process(linear(50), levels=17)
        compiled, plain = (
            self.backend.place(self.small_network(process), process, execution).trainer("posterior_kl", RECIPE)
            for execution in (replace(FLOAT64, compile=xla), FLOAT64)
        )
        batches = [make_draws(process, (3,), count, seed=count) for count in (12, 12, 5)]
        found = [compiled.losses(compiled.step(draws)) for draws in batches]
        tf.config.run_functions_eagerly(True)
        for draws, losses in zip(batches, found, strict=True):
            np.testing.assert_allclose(losses, plain.losses(plain.step(draws)), rtol=1e-9, atol=1e-12)
        for name, weight in plain.weights().items():
            np.testing.assert_allclose(compiled.weights()[name], weight, rtol=1e-9, atol=1e-10)

    @pytest.mark.usefixtures("graphs")
    def test_an_interrupted_run_of_a_graph_ends_in_the_same_bits(self):
        """The state loaded into a graph already traced is the one it goes on from."""
        process = reverse_process(linear(50), levels=17)
        batches = draws_for(process, 4)
        whole, second = (self.unet_trainer(process, "posterior_kl", execution=FLOAT32) for _ in range(2))
        second.step(batches[3])  # whatever it did before is forgotten
        for draws in batches[:2]:
            whole.step(draws)
        second.load_state(whole.state())
        for draws in batches[2:]:
            np.testing.assert_array_equal(whole.losses(whole.step(draws)), second.losses(second.step(draws)))
        found = second.state()
        for name, array in whole.state().items():
            np.testing.assert_array_equal(found[name], array)
