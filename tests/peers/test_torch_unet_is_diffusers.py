"""Our U-Net and diffusers' UNet2DModel with DDPM's settings are one function of one state dict."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import backends.torch as backend
from backends.interface import Execution
from backends.networks import UNetSettings, time_frequencies, weight_specs
from backends.torch.network import UNet
from studies.throughput.peers import diffusers_unet


class PreciseTime(torch.nn.Module):
    """diffusers forms the phase in float32, which is 1e-5 off at large t; this is its embedding in float64."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.frequencies = torch.tensor(time_frequencies(features))

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        phase = timesteps[:, None] * self.frequencies
        return torch.cat([torch.sin(phase), torch.cos(phase)], dim=1)


@pytest.mark.torch
@pytest.mark.parametrize(
    "settings",
    [
        UNetSettings((8, 8, 1), widths=(16, 32)),
        UNetSettings((8, 8, 3), widths=(8, 16), blocks_per_level=2, attention_levels=(1,), norm_groups=4),
        UNetSettings((8, 16, 3), widths=(8, 16, 16), attention_levels=(0, 2), norm_groups=4, learns_variance=True),
        UNetSettings((8, 8, 2), widths=(8, 16), mid_attention=False, norm_groups=2),
    ],
)
def test_unet_is_diffusers_unet(settings):
    """Same weights, same x_t, same t: outputs within 1e-12 of their size in float64, and state dicts both ways."""
    rng = np.random.default_rng(0)
    weights = {
        name: (spec.start == "ones") + 0.2 * rng.standard_normal(spec.shape)
        for name, spec in weight_specs(settings).items()
    }
    ours = backend.make_network(settings, weights, Execution(device="cpu", dtype="float64"))
    theirs = diffusers_unet(settings).double()
    theirs.load_state_dict({name: torch.tensor(w) for name, w in weights.items()}, strict=True)
    theirs.time_proj = PreciseTime(settings.time_features)
    x, t = torch.tensor(rng.standard_normal((4, *settings.shape))), torch.tensor([1, 2, 500, 1000])
    with torch.no_grad():
        expected = theirs(x.movedim(-1, 1), t - 1).sample.movedim(1, -1)
        output = ours(x, t)
    assert float((output - expected).abs().max()) < 1e-12 * float(expected.abs().max())
    back = UNet(settings).double()
    back.load_state_dict(theirs.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(back(x, t), output)
