"""The networks as `keras.Model`s: files, `fit`, pieces of their own."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import backends.keras as backend
from backends.interface import Execution
from backends.keras import layers
from backends.keras.layers import DoublingConv2D, GroupNorm, TimeFeatures
from backends.keras.network import MLP, UNet, load_neutral
from backends.networks import UNetSettings, initial_weights, time_frequencies, weight_specs
from core.reverse import reverse_process
from core.schedules import linear
from tests.backends.contract.network import UNETS, NetworkContract
from tests.backends.keras.helpers import OnKeras, check_attention
from tests.backends.reference import FLOAT32, FLOAT64, mlp_settings, random_weights, unet_settings

pytestmark = pytest.mark.keras


class TestNetwork(OnKeras, NetworkContract):
    """What every backend does."""


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-6)])
def test_time_features_are_sines_and_cosines_of_t_minus_1(dtype, tolerance):
    """[sin(w (t - 1)), cos(w (t - 1))], from the first step to the last one tabulated, in float32 as well."""
    t = np.array([1, 2, 17, 64, 65, 66, 1000, 4000, 65_536])
    phase = (t - 1)[:, None] * time_frequencies(64)
    ours = keras.ops.convert_to_numpy(TimeFeatures(64, dtype=dtype)(keras.ops.convert_to_tensor(t)))
    np.testing.assert_allclose(ours, np.concatenate([np.sin(phase), np.cos(phase)], axis=1), atol=tolerance)


@pytest.mark.parametrize("shape", [(5, 8), (4, 3, 8)])
def test_group_norm_normalises_each_group_of_each_example(shape):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over positions and a group's channels; also far from 0."""
    rng = np.random.default_rng(0)
    x = 1e3 + rng.standard_normal((2, *shape))
    layer = GroupNorm(4, dtype="float64")
    layer.build(x.shape)
    gamma, beta = rng.standard_normal((2, 8))
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    groups = x.reshape(2, -1, 4, 2)
    mean, variance = groups.mean(axis=(1, 3), keepdims=True), groups.var(axis=(1, 3), keepdims=True)
    normal = ((groups - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    ours = keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x)))
    np.testing.assert_allclose(ours, normal * gamma + beta, atol=1e-11)


@pytest.mark.parametrize(("length", "most_scores"), [(7, 7), (8, 2), (21, 2)])
def test_attention_is_softmax_of_scores_times_values(length, most_scores, monkeypatch):
    """In float64, at once and, from 8 positions on here, with at most 2 queries' scores at a time in each part."""
    monkeypatch.setattr(layers, "LONG", 8)
    sizes = []
    softmax = keras.ops.softmax
    monkeypatch.setattr(layers.ops, "softmax", lambda x, axis: sizes.append(x.shape[1]) or softmax(x, axis=axis))
    check_attention(length, 1e-14)
    assert max(sizes, default=0) <= most_scores


@pytest.mark.parametrize("lengths", [(4, 6), (3, 1)])
def test_doubling_is_nearest_neighbour_then_the_convolution(lengths):
    """To rounding of float64, however the product is taken: sums over the two rows and columns that an output sees."""
    rng = np.random.default_rng(0)
    x, kernel, bias = (rng.standard_normal(shape) for shape in ((2, *lengths, 3), (3, 3, 3, 5), 5))
    layer = DoublingConv2D(5, dtype="float64")
    layer.build(x.shape)
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    doubled = np.pad(x.repeat(2, axis=1).repeat(2, axis=2), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(doubled, (3, 3), axis=(1, 2))
    expected = np.einsum("nhwcij,ijco->nhwo", windows, kernel) + bias
    ours = keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x)))
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)
    assert layer.compute_output_shape((None, *lengths, 3)) == (None, *expected.shape[1:])


@pytest.mark.parametrize("settings", [*UNETS, mlp_settings()])
def test_layers_have_the_neutral_names_and_no_other_weights(settings):
    model = UNet(settings) if isinstance(settings, UNetSettings) else MLP(settings)
    layers = {layer.name for layer in model.layers if layer.weights}
    assert layers == {name.rpartition(".")[0].replace(".", "-") for name in weight_specs(settings)}
    assert len(model.weights) == len(weight_specs(settings))


@pytest.mark.parametrize("settings", [UNETS[0], UNETS[2], mlp_settings()])
def test_a_saved_model_is_the_same_function(settings, tmp_path):
    """Through a .keras file, whose layers Keras finds by their registered names."""
    network = backend.make_network(settings, random_weights(settings), FLOAT32)
    network.save(tmp_path / "network.keras")
    back = keras.saving.load_model(tmp_path / "network.keras")
    x, t = np.random.default_rng(0).standard_normal((3, *settings.shape)).astype(np.float32), np.array([1, 50, 1000])
    ours, theirs = (keras.ops.convert_to_numpy(model([x, t])) for model in (network, back))
    np.testing.assert_array_equal(theirs, ours)


@pytest.mark.usefixtures("graphs")
def test_a_model_taken_away_is_trained_by_fit():
    """It is a keras.Model like any other: compile, and fit to epsilon, lower the loss that Keras reports."""
    settings = mlp_settings()
    process = reverse_process(linear(50, 1e-3, 0.2))
    rng = np.random.default_rng(0)
    x_0, epsilon = rng.choice([-1.0, 1.0], (1024, 1)) * np.ones(3), rng.standard_normal((1024, 3))
    t = rng.integers(1, 51, 1024)
    x_t = process.noised(x_0, epsilon, t)
    network = backend.make_network(settings, initial_weights(settings, 0), FLOAT32)
    network.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse")
    losses = network.fit([x_t, t], epsilon, batch_size=64, epochs=10, verbose=0, shuffle=False).history["loss"]
    assert losses[-1] < 0.6 * losses[0]


def test_a_model_is_read_without_its_settings():
    """A model built by name has Keras's own initial weights, and takes neutral ones by `load_neutral`."""
    settings = unet_settings()
    model = UNet(settings, "float64")
    weights = random_weights(settings)
    load_neutral(model, weights)
    x, t = np.random.default_rng(0).standard_normal((2, *settings.shape)), np.array([3, 4])
    ours = OnKeras.call(model, x, t)
    np.testing.assert_array_equal(ours, OnKeras.call(backend.make_network(settings, weights, FLOAT64), x, t))


@pytest.mark.parametrize(("compiled", "word"), [(False, "graph"), (True, "XLA")])
def test_describe_says_what_decides_the_arithmetic(compiled, word):
    described = backend.describe(Execution(device="cpu", dtype="bfloat16", compile=compiled))
    assert described["framework"] == "Keras"
    assert described["version"] == keras.__version__
    assert (described["engine"], described["compile"], described["dtype"]) == ("tensorflow", word, "bfloat16")
    assert described["device"].startswith("cpu")
    assert described["tensorflow"]
    assert all(isinstance(value, str) for value in described.values())


def test_describe_refuses_what_cannot_run():
    with pytest.raises(ValueError, match="unknown dtype 'float16'"):
        backend.describe(Execution(dtype="float16"))
    with pytest.raises(ValueError, match="no device 'abacus' here"):
        backend.describe(Execution(device="abacus"))
