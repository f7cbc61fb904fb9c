"""The networks as `nn.Module`s: state dicts, plain loops, time features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import backends.torch as backend
from backends.interface import Execution
from backends.networks import UNetSettings, initial_weights, time_frequencies, weight_specs
from backends.torch.layers import NormSiLU, attend, doubled
from backends.torch.network import MLP, UNet, time_features
from tests.backends.contract.network import UNETS, NetworkContract
from tests.backends.reference import mlp_settings, unet_settings
from tests.backends.torch.helpers import OnTorch

pytestmark = pytest.mark.torch


class TestNetwork(OnTorch, NetworkContract):
    """What every backend does."""


def test_time_features_are_sines_and_cosines_of_t_minus_1():
    """[sin(w (t - 1)), cos(w (t - 1))], to rounding of a phase of thousands of radians."""
    t = np.array([1, 2, 17, 1000, 4000])
    phase = (t - 1)[:, None] * time_frequencies(64)
    ours = time_features(torch.tensor(t), 64, torch.float64).numpy()
    np.testing.assert_allclose(ours, np.concatenate([np.sin(phase), np.cos(phase)], axis=1), atol=2e-12)


@pytest.mark.parametrize("settings", [*UNETS, mlp_settings()])
def test_state_dict_has_the_neutral_names_and_shapes(settings):
    network = UNet(settings) if isinstance(settings, UNetSettings) else MLP(settings)
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    assert shapes == {name: spec.shape for name, spec in weight_specs(settings).items()}


def test_a_module_taken_away_trains_in_a_plain_loop():
    """It is an nn.Module like any other: its own optimiser, its own loss."""
    settings = unet_settings()
    network = UNet(settings)
    network.load_state_dict({name: torch.tensor(w) for name, w in initial_weights(settings, 0).items()})
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x, t = torch.randn(4, *settings.shape, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2, 3, 4])
    found = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = ((network(x, t) - x) ** 2).mean()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.9 * found[0]


@pytest.mark.parametrize(
    ("channels", "lengths"), [(16, (8, 8)), (24, (4, 9)), (128, (8, 8)), (16, (7, 3)), (16, (64,))]
)
def test_norm_without_gradients_is_the_norm_with_them(channels, lengths):
    """To rounding, in float64 and, for a mean of 100 deviations, in float32."""
    generator = torch.Generator().manual_seed(0)
    norm = NormSiLU(8, channels, 1e-6, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
    x = 100 + torch.randn(3, channels, *lengths, generator=generator, dtype=torch.float64)
    expected = torch.nn.functional.silu(torch.nn.functional.group_norm(x, 8, norm.weight, norm.bias, norm.eps))
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 2e-4)):
        norm.to(dtype)
        given = x.to(dtype)
        with torch.inference_mode():
            torch.testing.assert_close(norm(given).double(), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(norm(given).double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("grad", [False, True])
def test_norms_and_attention_keep_their_precision_under_autocast(grad):
    """bfloat16 inputs are normalised and attended in float32, as on a GPU, and not in their own 8 bits."""
    torch.manual_seed(0)
    x = 3 + torch.randn(2, 16, 6, 6).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    parts = [torch.randn(2, 1, 5, 8).to(torch.bfloat16) for _ in range(3)]
    norm = NormSiLU(4, 16, 1e-6)
    with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype=torch.bfloat16):
        normal, attended = norm(x), attend(*parts)
    exact = torch.nn.functional.silu(torch.nn.functional.group_norm(x.double(), 4, eps=1e-6))
    assert normal.dtype == attended.dtype == torch.float32
    torch.testing.assert_close(normal.double(), exact, rtol=1e-5, atol=1e-5)
    exact = torch.nn.functional.scaled_dot_product_attention(*(part.double() for part in parts))
    torch.testing.assert_close(attended.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", [(4, 6), (3, 1), (5,)])
def test_doubling_is_nearest_neighbour_then_the_convolution(lengths):
    """To rounding of float64, value and gradients, however the product is taken."""
    torch.manual_seed(0)
    conv = (torch.nn.Conv1d, torch.nn.Conv2d)[len(lengths) - 1](3, 5, 3, padding=1, dtype=torch.float64)
    x = torch.randn(2, 3, *lengths, dtype=torch.float64, requires_grad=True)
    repeated = x
    for axis in range(2, x.dim()):
        repeated = repeated.repeat_interleave(2, dim=axis)
    inputs, expected = (x, conv.weight, conv.bias), conv(repeated)
    upstream = torch.randn_like(expected)
    torch.testing.assert_close(doubled(conv, x), expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(y, inputs, upstream) for y in (doubled(conv, x), expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_describe_says_what_decides_the_arithmetic():
    described = backend.describe(Execution(device="cpu", dtype="bfloat16", compile=True))
    assert described["version"] == torch.__version__
    assert described["device"].startswith("cpu (")
    assert (described["dtype"], described["compile"]) == ("bfloat16", "torch.compile")
    assert all(isinstance(value, str) for value in described.values())
    assert backend.describe(Execution())["device"]
