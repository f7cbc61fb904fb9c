"""PyTorch and Keras on TensorFlow, side by side: the same weights and draws give the same numbers in both."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import backends.keras
import backends.torch
from backends.checkpoints import load_network, load_weights, save_network, save_weights
from backends.interface import Execution
from backends.networks import UNetSettings, initial_weights
from backends.recipe import TrainingRecipe
from core.objectives import posterior_kl
from core.predictions import PREDICTIONS
from core.reverse import reverse_process
from core.samplers import make_sampler
from core.schedules import cosine, linear
from core.variances import VARIANCES
from tests.backends.keras.helpers import OnKeras
from tests.backends.reference import (
    FLOAT32,
    FLOAT64,
    TRAINABLE,
    make_draws,
    mlp_settings,
    noise_of,
    numpy_batch,
    random_weights,
    unet_settings,
)
from tests.backends.torch.helpers import OnTorch

pytestmark = pytest.mark.parity

TORCH, KERAS = backends.torch, backends.keras
FRAMEWORKS = (TORCH, KERAS)
UNETS = [
    UNetSettings((8, 8, 3), widths=(8, 16), blocks_per_level=2, attention_levels=(1,), norm_groups=4),
    UNetSettings((8, 4, 1), widths=(8, 8, 16), mid_attention=False, norm_groups=2, learns_variance=True),
    UNetSettings((16, 2), widths=(8, 16), attention_levels=(0, 1), norm_groups=4),
]
RECIPE = TrainingRecipe(num_steps=100, warmup_steps=10, learning_rate=2e-3)


@pytest.fixture(autouse=True)
def _one_thread_op_by_op(request):
    """Tiny networks are slower on several threads; Keras traces graphs where a test is about them, with `graphs`."""
    import tensorflow as tf
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    tf.config.run_functions_eagerly("graphs" not in request.fixturenames)
    yield
    tf.config.run_functions_eagerly(False)
    torch.set_num_threads(before)


@pytest.fixture
def graphs():
    """For tests in which Keras compiles its functions, as it does for users."""


def networks(settings, weights, execution=FLOAT64):
    return [backend.make_network(settings, weights, execution) for backend in FRAMEWORKS]


def placed(process, execution, of):
    """Each backend's own network, placed with the process."""
    return [backend.place(network, process, execution) for backend, network in zip(FRAMEWORKS, of, strict=True)]


def trainers(settings, process, objective, execution=FLOAT64, seed=0):
    pair = networks(settings, grown(settings, seed), execution)
    return [model.trainer(objective, RECIPE) for model in placed(process, execution, pair)]


def grown(settings, seed=0):
    """The starting weights of a study, with nothing left at zero."""
    rng = np.random.default_rng(seed)
    return {name: w + 0.05 * rng.standard_normal(w.shape) for name, w in initial_weights(settings, seed).items()}


def largest(arrays):
    return max(np.abs(array).max() for array in arrays.values())


def assert_gradients_agree(ours, theirs, tolerance):
    """Largest error of any weight, against the largest gradient: a bias without influence has none but rounding."""
    assert ours.keys() == theirs.keys()
    error = largest({name: ours[name] - theirs[name] for name in ours})
    assert error <= tolerance * largest(theirs)


@pytest.mark.parametrize(("execution", "tolerance"), [(FLOAT64, 1e-12), (FLOAT32, 1e-5)])
@pytest.mark.parametrize("settings", [mlp_settings(True), *UNETS], ids=["mlp", "image", "learned", "series"])
def test_networks_are_one_function(settings, execution, tolerance):
    """The same weights under the same names give the same outputs."""
    x, t = np.random.default_rng(0).standard_normal((4, *settings.shape)), np.array([1, 2, 500, 1000])
    pair = networks(settings, random_weights(settings), execution)
    ours, theirs = (how.call(network, x, t) for how, network in zip((OnTorch, OnKeras), pair, strict=True))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize(("execution", "tolerance"), [(FLOAT64, 1e-12), (FLOAT32, 1e-5)])
@pytest.mark.parametrize("levels", [None, 17])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("variance", VARIANCES)
def test_losses_and_gradients_agree(variance, prediction, levels, execution, tolerance):
    """Every objective that trains the variance: loss per example, gradient, and both bound terms."""
    process = reverse_process(cosine(100), prediction, variance, levels=levels)
    settings = mlp_settings(process.learns_variance)
    models = placed(process, execution, networks(settings, random_weights(settings, size=0.2), execution))
    draws = make_draws(process, (3,))
    for ours, theirs in zip(*(model.bound_terms()(draws) for model in models), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    for objective in (objective for kind, objective in TRAINABLE if kind == variance):
        (loss, gradients), (other, others) = (model.loss_and_gradients(objective, draws) for model in models)
        np.testing.assert_allclose(loss, other, rtol=tolerance, atol=tolerance)
        assert_gradients_agree(gradients, others, 1e-10 if execution.dtype == "float64" else 2e-5)


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(
    ("torch_compiled", "keras_compiled"),
    [(False, False), (False, True), pytest.param(True, True, marks=pytest.mark.slow)],
    ids=["graph", "XLA", "torch.compile"],
)
@pytest.mark.parametrize(("execution", "tolerance"), [(FLOAT64, 1e-12), (FLOAT32, 1e-5)])
def test_compiled_losses_and_gradients_agree(execution, tolerance, torch_compiled, keras_compiled):
    """A U-Net with attention and data on levels, through each framework's compiler; bound terms by numpy as well."""
    settings = unet_settings()
    process = reverse_process(linear(100), levels=17)
    draws = make_draws(process, settings.shape)
    pair = networks(settings, random_weights(settings, size=0.1), execution)
    executions = [replace(execution, compile=compiled) for compiled in (torch_compiled, keras_compiled)]
    (loss, gradients), (other, others) = (
        backend.place(network, process, how).loss_and_gradients("posterior_kl", draws)
        for backend, network, how in zip(FRAMEWORKS, pair, executions, strict=True)
    )
    np.testing.assert_allclose(loss, other, rtol=tolerance, atol=tolerance)
    assert_gradients_agree(gradients, others, 1e-10 if execution.dtype == "float64" else 2e-5)
    kl = [
        backend.place(network, process, how).bound_terms()(draws)[1]
        for backend, network, how in zip(FRAMEWORKS, pair, executions, strict=True)
    ]
    np.testing.assert_allclose(kl[0], kl[1], rtol=tolerance, atol=tolerance)
    batch, output = numpy_batch(partial(OnKeras.call, pair[1]), process, draws)
    np.testing.assert_allclose(kl[1], posterior_kl(process, batch, output), rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("objective", ["epsilon_mse", "posterior_kl"])
def test_a_hundred_steps_end_at_the_same_weights(objective):
    """Adam, clipping, warm-up, decay and averaging in float64: weights, average and moments within 1e-8."""
    settings = unet_settings()
    process = reverse_process(linear(100), levels=17)
    pair = trainers(settings, process, objective)
    for seed in range(100):
        draws = make_draws(process, settings.shape, count=8, seed=seed)
        found = [trainer.losses(trainer.step(draws)) for trainer in pair]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-8)
    ours, theirs = (trainer.state() for trainer in pair)
    assert ours.keys() == theirs.keys()
    assert ours["step"] == theirs["step"] == 100
    moved = largest({n: w - grown(settings)[n] for n, w in pair[0].weights(ema=False).items()})
    assert moved > 0.02
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], rtol=0, atol=1e-8)


@pytest.mark.usefixtures("graphs")
def test_float32_training_stays_together():
    """Twenty steps of the default study's kind: losses within 1e-3 of each other, far below what seeds change."""
    settings = unet_settings()
    process = reverse_process(linear(100), levels=17)
    pair = trainers(settings, process, "epsilon_mse", FLOAT32)
    for seed in range(20):
        draws = make_draws(process, settings.shape, count=8, seed=seed)
        ours, theirs = (trainer.losses(trainer.step(draws)) for trainer in pair)
        np.testing.assert_allclose(ours.epsilon_mse, theirs.epsilon_mse, rtol=1e-3)


@pytest.mark.parametrize("source", [0, 1], ids=["torch to keras", "keras to torch"])
def test_training_goes_on_in_the_other_framework(source, tmp_path):
    """Three steps in one, through a file, three in the other: the weights of six steps in one."""
    settings = unet_settings()
    process = reverse_process(linear(100), levels=17)
    batches = [make_draws(process, settings.shape, count=8, seed=seed) for seed in range(6)]
    first, whole = trainers(settings, process, "posterior_kl")[source], trainers(settings, process, "posterior_kl")[0]
    second = trainers(settings, process, "posterior_kl", seed=1)[1 - source]
    for draws in batches[:3]:
        first.step(draws)
    save_weights(tmp_path / "state.safetensors", first.state(), {})
    second.load_state(load_weights(tmp_path / "state.safetensors")[0])
    assert second.step_count == 3
    for draws in batches[3:]:
        second.step(draws)
    for draws in batches:
        whole.step(draws)
    expected = whole.state()
    for name, array in second.state().items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("source", [0, 1], ids=["torch to keras", "keras to torch"])
@pytest.mark.parametrize("settings", [mlp_settings(True), *UNETS], ids=["mlp", "image", "learned", "series"])
def test_a_checkpoint_of_one_is_a_network_of_the_other(settings, source, tmp_path):
    """Settings and weights, bit for bit."""
    path = tmp_path / "network.safetensors"
    one, other = FRAMEWORKS[source], FRAMEWORKS[1 - source]
    weights = one.export_weights(one.make_network(settings, random_weights(settings), FLOAT32))
    save_network(path, weights, settings)
    loaded, found = load_network(path)
    assert found == settings
    for name, array in other.export_weights(other.make_network(found, loaded, FLOAT32)).items():
        np.testing.assert_array_equal(array, weights[name])


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm_solver"])
@pytest.mark.parametrize("settings", [mlp_settings(), unet_settings(True)], ids=["mlp", "unet"])
def test_samples_agree(settings, sampler):
    """The same x_T and noise, 20 of 100 steps, in float64: x_0 and x_0_hat on the way."""
    process = reverse_process(
        linear(100, 1e-3, 0.1).respaced(20), variance="learned_range" if settings.learns_variance else "beta_tilde"
    )
    pair, x_T = networks(settings, grown(settings)), np.random.default_rng(0).standard_normal((4, *settings.shape))
    (ours, kept), (theirs, others) = (
        model.sample(make_sampler(sampler), x_T, partial(noise_of, x_T.shape), [1, 10, 20])
        for model in placed(process, FLOAT64, pair)
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(theirs).max())
    assert list(kept) == list(others) == [20, 10, 1]
    for t, x_0_hat in kept.items():
        np.testing.assert_allclose(x_0_hat, others[t], rtol=0, atol=1e-10 * np.abs(x_0_hat).max())


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("keras_compiled", [False, True], ids=["graph", "XLA"])
def test_compiled_float32_samples_agree(keras_compiled):
    """A whole clipped chain of a U-Net in float32: within 1e-4 of values in [-1, 1]."""
    settings = unet_settings()
    process = reverse_process(linear(20, 1e-3, 0.3))
    pair, x_T = networks(settings, grown(settings), FLOAT32), np.random.default_rng(0).standard_normal((4, 4, 4, 1))
    ours, theirs = (
        backend.place(network, process, execution).sample(
            make_sampler("ancestral", clip=1.0), x_T, partial(noise_of, x_T.shape)
        )[0]
        for backend, network, execution in zip(
            FRAMEWORKS, pair, (FLOAT32, replace(FLOAT32, compile=keras_compiled)), strict=True
        )
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_both_refuse_alike():
    """A network without the variance that the process learns, and steps outside the chain: the same words."""
    process = reverse_process(linear(10))
    pair = networks(mlp_settings(), random_weights(mlp_settings()), Execution(device="cpu"))
    wrong = replace(make_draws(process, (3,)), t=np.full(12, 11))
    told = []
    for backend, network in zip(FRAMEWORKS, pair, strict=True):
        with pytest.raises(ValueError, match="steps run from 1 to 10, got 11") as caught:
            backend.place(network, process, FLOAT32).bound_terms()(wrong)
        told.append(str(caught.value))
        with pytest.raises(ValueError, match="needs a network with learns_variance=True"):
            backend.place(network, reverse_process(linear(10), variance="learned_range"), FLOAT32).bound_terms()
    assert told[0] == told[1]
