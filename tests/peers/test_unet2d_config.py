"""Weights that diffusers saved are its model's function here, or are refused by the setting that differs."""

from __future__ import annotations

import inspect

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from safetensors.torch import load_file, save_file

import backends.torch as backend
from backends.checkpoints import load_network, load_network_settings, load_weights
from backends.interface import Execution
from backends.networks import UNetSettings
from backends.unet2d_config import DEFAULTS, EARLIER_NAMES

FLOAT64 = Execution(device="cpu", dtype="float64")
DDPM = {
    "sample_size": 8, "in_channels": 3, "out_channels": 3, "block_out_channels": (8, 16), "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4, "attention_head_dim": None, "flip_sin_to_cos": False, "freq_shift": 1,
    "downsample_padding": 0, "norm_eps": 1e-6,
}  # fmt: skip
"""A small one with the settings of Ho et al. (2020), as google/ddpm-cifar10-32 has them."""


@pytest.fixture
def saved(tmp_path):
    def saved(**settings):
        """A model with weights that are nowhere 0, and the path of its weights, its config.json beside it."""
        torch.manual_seed(0)
        model = UNet2DModel(**{**DDPM, **settings}).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(weight + 0.2 * torch.randn_like(weight))
        model.save_pretrained(tmp_path)
        return model, tmp_path / "diffusion_pytorch_model.safetensors"

    return saved


def both_outputs(model, path):
    """diffusers' and ours, channels last, at steps whose phase float32 can hold."""
    weights, settings = load_network(path)
    network = backend.make_network(settings, weights, FLOAT64)
    x, t = torch.randn(3, *settings.shape, dtype=torch.float64), torch.tensor([1, 2, 5])
    with torch.no_grad():
        theirs = model.double()(x.movedim(-1, 1), t - 1).sample.movedim(1, -1)
        return theirs, network(x, t)


ALIKE = [
    {},
    {"attention_head_dim": 16},  # one head, as wide as the level
    {"act_fn": "swish"},  # another name of SiLU
    {"dropout": 0.1},  # nothing in a trained network
    {"time_embedding_dim": 32},  # four times the first width
    {"attn_norm_num_groups": 4},
    {"num_train_timesteps": 1000},
    {"add_attention": False, "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2,
     "attention_head_dim": 8},  # without attention, without heads
    {"sample_size": (8, 16), "out_channels": 6, "layers_per_block": 2, "norm_num_groups": 2},
    {"block_out_channels": (8,), "down_block_types": ("AttnDownBlock2D",), "up_block_types": ("AttnUpBlock2D",),
     "downsample_padding": 1},  # nothing to pad
    {"block_out_channels": (8, 8, 16), "down_block_types": ("AttnDownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
     "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "AttnUpBlock2D")},
]  # fmt: skip
OTHER = {
    "attention_head_dim": 8, "center_input_sample": True, "time_embedding_type": "fourier", "freq_shift": 0,
    "flip_sin_to_cos": True, "mid_block_scale_factor": 2, "downsample_padding": 1, "downsample_type": "resnet",
    "upsample_type": "resnet", "act_fn": "mish", "attn_norm_num_groups": 2, "norm_eps": 1e-5,
    "resnet_time_scale_shift": "scale_shift", "class_embed_type": "timestep", "num_class_embeds": 10,
    "time_embedding_dim": 64, "mid_block_type": None, "out_channels": 4,
    "down_block_types": ("DownBlock2D", "ResnetDownsampleBlock2D"),
    "up_block_types": ("ResnetUpsampleBlock2D", "UpBlock2D"),
}  # fmt: skip
"""For every setting that is not ours a value of another function, or of another network."""


@pytest.mark.torch
@pytest.mark.parametrize("settings", ALIKE, ids=str)
def test_a_setting_that_is_honoured_gives_the_same_outputs(saved, settings):
    theirs, ours = both_outputs(*saved(**settings))
    assert float((ours - theirs).abs().max()) < 1e-6 * float(theirs.abs().max())  # their phase is of float32


@pytest.mark.torch
@pytest.mark.parametrize("name", OTHER)
def test_a_setting_of_another_function_is_refused_by_its_name(saved, name):
    _, path = saved(**{name: OTHER[name]})
    for load in (load_network, load_network_settings, load_weights):
        with pytest.raises(
            ValueError, match=rf"config.json is of a UNet2DModel that computes another .*{name} "
        ) as error:
            load(path)
        assert "\n" not in str(error.value)


@pytest.mark.torch
def test_diffusers_own_defaults_are_refused_with_all_that_differs(saved):
    """As the model came: without a word it computed another function."""
    default = {name: DEFAULTS[name] for name in ("attention_head_dim", "flip_sin_to_cos", "freq_shift", "norm_eps")}
    _, path = saved(**default, downsample_padding=1)
    with pytest.raises(ValueError, match="another function") as error:
        load_network(path)
    assert str(error.value).endswith(
        "attention_head_dim 8 (ours None), downsample_padding 1 (ours 0), flip_sin_to_cos True (ours False), "
        "freq_shift 0 (ours 1), norm_eps 1e-05 (ours 1e-06); use it with diffusers"
    )


@pytest.mark.torch
def test_norm_groups_which_no_weight_shows_are_those_of_the_config(saved):
    _, path = saved()
    _, settings = load_network(path)
    assert settings == UNetSettings((8, 8, 3), (8, 16), attention_levels=(1,), norm_groups=4)
    with pytest.raises(ValueError, match="another network: norm_groups is 4 there, 8 here"):
        load_network(path, UNetSettings((8, 8, 3), (8, 16), attention_levels=(1,)))


@pytest.mark.torch
def test_the_first_published_names_of_attention(saved):
    """As google/ddpm-cifar10-32 has them; diffusers renames them as it loads."""
    _, path = saved()
    later = {now: earlier for earlier, now in EARLIER_NAMES.items()}
    old = {}
    for name, weight in load_file(path).items():
        for now, earlier in later.items():
            name = name.replace(now, earlier)
        old[name] = weight
    assert any(".proj_attn." in name for name in old)
    save_file(old, path)
    again = UNet2DModel.from_pretrained(path.parent)
    assert sum(isinstance(module, Attention) for module in again.modules()) == 4
    theirs, ours = both_outputs(again.eval(), path)
    assert float((ours - theirs).abs().max()) < 1e-6 * float(theirs.abs().max())


def test_every_setting_of_theirs_has_its_default_here():
    """A new one, which could change the function, is to be decided on."""
    parameters = inspect.signature(UNet2DModel.__init__).parameters
    theirs = {name: parameter.default for name, parameter in parameters.items() if name != "self"}
    theirs = {name: list(value) if isinstance(value, tuple) else value for name, value in theirs.items()}
    assert theirs == DEFAULTS
    decided = {*OTHER, *(name for settings in ALIKE for name in settings), "in_channels"}
    assert decided == set(DEFAULTS)
