"""What Keras must do on any engine, held to PyTorch and numpy: run in a process of its own, with KERAS_BACKEND set."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import backends.keras as ours
import backends.torch as theirs
from backends import capabilities
from backends.interface import Execution
from backends.recipe import TrainingRecipe
from core.objectives import epsilon_mse, posterior_kl
from core.reverse import reverse_process
from core.samplers import make_sampler
from core.schedules import linear
from tests.backends.keras.helpers import OnKeras, check_attention
from tests.backends.reference import (
    FLOAT32,
    FLOAT64,
    make_draws,
    mlp_settings,
    noise_of,
    numpy_batch,
    random_weights,
    unet_settings,
    unit_scale_by_hand,
)

RECIPE = TrainingRecipe(num_steps=10, warmup_steps=2, learning_rate=1e-2)


def check_losses_and_gradients(execution: Execution, tolerance: float) -> None:
    """Each kind of loss, with and without a learned variance and levels."""
    for prediction, variance, objective, levels in (
        ("epsilon", "beta_tilde", "epsilon_mse", None),
        ("v", "beta", "posterior_kl", 17),
        ("x_0", "learned_diagonal", "posterior_kl", None),
        ("epsilon", "learned_range", "hybrid", 17),
    ):
        process = reverse_process(linear(100), prediction, variance, levels=levels)
        settings, draws = mlp_settings(process.learns_variance), make_draws(process, (3,))
        weights = random_weights(settings, size=0.2)
        network = ours.make_network(settings, weights, execution)
        batch, output = numpy_batch(partial(OnKeras.call, network), process, draws)
        mse, kl = ours.place(network, process, execution).bound_terms()(draws)
        assert mse.dtype == kl.dtype == execution.dtype
        np.testing.assert_allclose(mse, epsilon_mse(process, batch, output), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(kl, posterior_kl(process, batch, output), rtol=tolerance, atol=tolerance)
        loss, gradients = ours.place(network, process, execution).loss_and_gradients(objective, draws)
        peer = theirs.make_network(settings, weights, execution)
        expected, expected_gradients = theirs.place(peer, process, execution).loss_and_gradients(objective, draws)
        np.testing.assert_allclose(loss, expected, rtol=tolerance, atol=tolerance)
        largest = max(np.abs(gradient).max() for gradient in expected_gradients.values())
        for name, gradient in expected_gradients.items():
            np.testing.assert_allclose(gradients[name], gradient, rtol=0, atol=10 * tolerance * largest)


def check_training_and_sampling(execution: Execution, tolerance: float) -> None:
    """Four steps of a U-Net, an interruption after two, and a chain from the weights they end at."""
    settings = unet_settings()
    process = reverse_process(linear(20, 1e-3, 0.3), levels=17)
    batches = [make_draws(process, settings.shape, count=6, seed=seed) for seed in range(4)]
    start = random_weights(settings, size=0.1)

    def trainer(backend):
        return backend.place(backend.make_network(settings, start, execution), process, execution).trainer(
            "posterior_kl", RECIPE
        )

    whole, peer, second = trainer(ours), trainer(theirs), trainer(ours)
    for draws in batches[:2]:
        whole.step(draws)
    second.load_state(whole.state())
    for draws in batches[2:]:
        np.testing.assert_array_equal(whole.losses(whole.step(draws)), second.losses(second.step(draws)))
    for name, array in whole.state().items():
        np.testing.assert_array_equal(array, second.state()[name])
    for draws in batches:
        peer.step(draws)
    trained = whole.weights()
    for name, array in peer.weights().items():
        np.testing.assert_allclose(trained[name], array, rtol=0, atol=tolerance)
    x_T = np.random.default_rng(0).standard_normal((2, *settings.shape))
    samples = [
        backend.place(backend.make_network(settings, trained, execution), process, execution).sample(
            make_sampler("ancestral", clip=1.0), x_T, partial(noise_of, x_T.shape)
        )[0]
        for backend in (ours, theirs)
    ]
    np.testing.assert_allclose(samples[0], samples[1], rtol=0, atol=tolerance)


def check_group(execution: Execution, tolerance: float) -> None:
    """Two U-Nets trained together, each on an objective of its own, against PyTorch's trainer of each; then a state's
    way out of the group and back in.
    """
    settings, objectives = replace(unet_settings(), widths=(8,)), ("posterior_kl", "epsilon_mse")
    process = reverse_process(linear(20, 1e-3, 0.3))
    starts = [random_weights(settings, seed, size=0.1) for seed in range(2)]
    group = ours.make_group_trainer(settings, starts, process, objectives, RECIPE, execution)
    peers = [
        theirs.place(theirs.make_network(settings, start, execution), process, execution).trainer(objective, RECIPE)
        for start, objective in zip(starts, objectives, strict=True)
    ]
    for step in range(3):
        draws = [make_draws(process, settings.shape, count=6, seed=2 * step + member) for member in range(2)]
        found = group.losses(group.step(draws))
        for peer, one, losses in zip(peers, draws, found, strict=True):
            np.testing.assert_allclose(losses, peer.losses(peer.step(one)), rtol=tolerance, atol=tolerance)
    for member, peer in enumerate(peers):
        for name, array in peer.weights().items():
            np.testing.assert_allclose(group.weights(member)[name], array, rtol=0, atol=tolerance)
    states = [group.state(member) for member in range(2)]
    single = ours.place(ours.make_network(settings, starts[1], execution), process, execution).trainer(
        objectives[1], RECIPE
    )
    single.load_state(states[1])
    group.step(draws)
    group.load_states([states[0], single.state()])
    for member, expected in enumerate(states):
        for name, array in group.state(member).items():
            np.testing.assert_array_equal(array, expected[name])


def check_bfloat16() -> None:
    """The network's arithmetic has 8 bits; its weights and the losses have 24."""
    process, settings = reverse_process(linear(100)), unet_settings()
    draws, low = make_draws(process, settings.shape), Execution(device="cpu", dtype="bfloat16")
    mse, exact = (
        ours.place(ours.make_network(settings, random_weights(settings), how), process, how).bound_terms()(draws)[0]
        for how in (low, FLOAT32)
    )
    assert mse.dtype == np.float32
    assert 1e-5 < np.max(np.abs(mse - exact) / exact) < 0.1


def check_files_and_fit() -> None:
    """A .keras file is the same function, and `fit` of an objective starts at the loss that training does."""
    import keras

    from backends.keras.fitting import Adam, DiffusionModel

    settings, process = unet_settings(), reverse_process(linear(20, 1e-3, 0.3), levels=17)
    network = ours.make_network(settings, random_weights(settings, size=0.1), FLOAT32)
    draws = make_draws(process, settings.shape, count=32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.keras"
        network.save(path)
        loaded = keras.saving.load_model(path)
    np.testing.assert_array_equal(*(OnKeras.call(n, draws.epsilon, draws.t) for n in (network, loaded)))
    loss, _ = ours.place(loaded, process, FLOAT32).loss_and_gradients("posterior_kl", draws)
    model = DiffusionModel(network, process, "posterior_kl")
    model.compile(Adam(1e-2, global_clipnorm=1.0))
    inputs = {"x_0": draws.x_0, "epsilon": draws.epsilon, "t": draws.t, "weight": draws.weight}
    found = model.fit(inputs, epochs=6, verbose=0).history["loss"]
    expected = np.mean(draws.weight * loss) * unit_scale_by_hand(process, "posterior_kl")
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    assert found[-1] < 0.9 * found[0]


def check_device() -> None:
    """Described in words, and refused in one line where it is not here."""
    described = ours.describe(Execution(device="cpu"))
    engine = os.environ["KERAS_BACKEND"]
    assert described["engine"] == engine
    assert described[engine]
    assert described["device"] == "cpu"
    with pytest.raises(ValueError, match=f"Keras on {engine} has no device 'abacus' here"):
        ours.make_network(mlp_settings(), random_weights(mlp_settings()), replace(FLOAT32, device="abacus"))


if __name__ == "__main__":
    check_device()
    check_losses_and_gradients(FLOAT32, 1e-5)
    # A tenth of one step of size 1e-2: where a weight has no influence, Adam scales its rounding errors up.
    check_training_and_sampling(FLOAT32, 1e-3)
    check_bfloat16()
    for length in (12, 1024):
        check_attention(length, 2e-6, "float32")
    check_files_and_fit()
    if capabilities("keras").holds_float64:
        check_losses_and_gradients(FLOAT64, 1e-12)
        check_training_and_sampling(FLOAT64, 1e-9)
        check_group(FLOAT64, 1e-9)
    else:
        with pytest.raises(ValueError, match="keras on torch does not compute in float64 throughout; use float32"):
            ours.make_network(mlp_settings(), random_weights(mlp_settings()), FLOAT64)
    print("all held")
