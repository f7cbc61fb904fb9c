"""The pieces for `fit`: Adam against its formula, and a model whose loss is an objective."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import backends.keras as backend
from backends.keras.arrays import to_numpy
from backends.keras.fitting import Adam, DiffusionModel
from backends.networks import initial_weights
from core.reverse import reverse_process
from core.schedules import linear
from tests.backends.reference import FLOAT32, FLOAT64, make_draws, mlp_settings, random_weights, unit_scale_by_hand

pytestmark = pytest.mark.keras


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-5)])
def test_adam_is_algorithm_1(dtype, tolerance):
    """rate * m_hat / (sqrt(v_hat) + epsilon), also for gradients as small as epsilon; Keras's rate is float32."""
    rng = np.random.default_rng(0)
    variable, adam = keras.Variable(np.zeros(3), dtype=dtype), Adam(0.5, epsilon=1e-8)
    w, m, v = np.zeros((3, 3))
    for k in range(1, 6):
        g = rng.standard_normal(3) * np.array([1.0, 1e-8, 1e-9])
        adam.apply([keras.ops.convert_to_tensor(g.astype(dtype))], [variable])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - 0.5 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
        np.testing.assert_allclose(to_numpy(variable), w, rtol=tolerance)


def test_adam_is_saved_with_its_settings():
    config = keras.optimizers.serialize(Adam(1e-3, epsilon=1e-5))
    restored = keras.optimizers.deserialize(config)
    assert isinstance(restored, Adam)
    assert restored.epsilon == 1e-5


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(
    ("objective", "variance", "execution", "xla"),
    [
        ("epsilon_mse", "beta_tilde", FLOAT32, True),
        ("posterior_kl", "beta", FLOAT64, False),
        ("hybrid", "learned_range", FLOAT32, False),
    ],
)
def test_fit_minimises_the_weighted_objective(objective, variance, execution, xla):
    """The loss reported for the first batch is mean(weight * loss) * scale; later ones are lower."""
    process = reverse_process(linear(50, 1e-3, 0.2), variance=variance, levels=17)
    settings, draws = mlp_settings(process.learns_variance), make_draws(process, (3,), count=32)
    network = backend.make_network(settings, random_weights(settings, size=0.1), execution)
    loss, _ = backend.place(network, process, execution).loss_and_gradients(objective, draws)
    model = DiffusionModel(network, process, objective)
    model.compile(Adam(1e-2, global_clipnorm=1.0), jit_compile=xla)
    inputs = {"x_0": draws.x_0, "epsilon": draws.epsilon, "t": draws.t, "weight": draws.weight}
    found = model.fit(inputs, epochs=5, verbose=0).history["loss"]
    assert found[0] == pytest.approx(np.mean(draws.weight * loss) * unit_scale_by_hand(process, objective), rel=1e-5)
    assert found[-1] < found[0]


def test_a_model_predicts_losses():
    """`predict` gives the scaled loss per example, and `evaluate` its mean; a respaced chain tells its own steps."""
    process = reverse_process(linear(100).respaced(5), levels=17)
    network = backend.make_network(mlp_settings(), random_weights(mlp_settings()), FLOAT32)
    draws = make_draws(process, (3,))
    loss, _ = backend.place(network, process, FLOAT32).loss_and_gradients("posterior_kl", draws)
    expected = loss * unit_scale_by_hand(process, "posterior_kl")
    model = DiffusionModel(network, process, "posterior_kl")
    model.compile()
    inputs = {"x_0": draws.x_0, "epsilon": draws.epsilon, "t": draws.t}
    np.testing.assert_allclose(model.predict(inputs, verbose=0), expected, rtol=1e-5)
    assert model.evaluate(inputs, verbose=0) == pytest.approx(expected.mean(), rel=1e-5)


def test_an_objective_that_cannot_train_the_variance_is_refused():
    network = backend.make_network(mlp_settings(True), initial_weights(mlp_settings(True), 0), FLOAT32)
    with pytest.raises(ValueError, match="has no gradient for a learned_range variance"):
        DiffusionModel(network, reverse_process(linear(10), variance="learned_range"), "epsilon_mse")
