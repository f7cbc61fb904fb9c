"""The settings of a `diffusers.UNet2DModel` as its config.json has them: those of our U-Net, or refused by name.

Weights alone do not say which function they are of: diffusers' own defaults give ours another time embedding, heads,
padding and normalisation. So each setting is honoured, changes nothing in a trained network, or ends in a ValueError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.networks import NORM_EPSILON, UNetSettings

CLASS, FILE = "UNet2DModel", "config.json"

DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}
"""What a `UNet2DModel` has of a setting that its file does not name."""

FIXED: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "freq_shift": (1,),
    "flip_sin_to_cos": (False,),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "norm_eps": (NORM_EPSILON,),
    "resnet_time_scale_shift": ("default",),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
}
"""Settings that our U-Net does not have, and the values of them that it is of.

Dropout is nothing in a trained network, and `num_train_timesteps` in one whose time embedding is not learned.
"""

ATTENDS = {"DownBlock2D": False, "AttnDownBlock2D": True, "UpBlock2D": False, "AttnUpBlock2D": True}


EARLIER_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""What the layers of attention were called in the first published weights, and are called since."""


def settings_beside(path: Path | str) -> UNetSettings | None:
    """The settings in the config.json beside a file of weights; None where none is, or it is of another class.

    A ValueError in one line names all in which it is of another function than ours.
    """
    config = Path(path).parent / FILE
    if not config.is_file():
        return None
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("_class_name") != CLASS:
            return None
        return settings_of(content)
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, IndexError):
        raise ValueError(f"{config} is no settings of a network that can be read; move it away from {path}") from None
    except ValueError as error:
        raise ValueError(f"{config} is of {error}") from None


def present_name(name: str) -> str:
    """The name that a weight of a `UNet2DModel` has now."""
    for earlier, now in EARLIER_NAMES.items():
        name = name.replace(earlier, now)
    return name


def settings_of(content: Mapping[str, Any]) -> UNetSettings:
    """Our settings of the network that a config.json describes. ValueError for one that our U-Net is not."""
    unknown = sorted(name for name in content if name not in DEFAULTS and not name.startswith("_"))
    config = {**DEFAULTS, **content}
    differing = {name: known[0] for name, known in FIXED.items() if config[name] not in known}
    differing |= dict.fromkeys(unknown, "has none") | _differing_with_widths(config)
    if differing:
        named = ", ".join(f"{name} {config[name]!r} (ours {ours})" for name, ours in sorted(differing.items()))
        raise ValueError(f"a {CLASS} that computes another function than this U-Net: {named}; use it with diffusers")
    widths = tuple(config["block_out_channels"])
    return UNetSettings(
        shape=(*_lengths(config["sample_size"]), config["in_channels"]),
        widths=widths,
        blocks_per_level=config["layers_per_block"],
        attention_levels=tuple(level for level, kind in enumerate(config["down_block_types"]) if ATTENDS[kind]),
        mid_attention=config["add_attention"],
        norm_groups=config["norm_num_groups"],
        learns_variance=config["out_channels"] == 2 * config["in_channels"],
    )


def _differing_with_widths(config: Mapping[str, Any]) -> dict[str, Any]:
    """What ours would be of those settings whose right value depends on others, where they have another."""
    widths, down, up = (list(config[name]) for name in ("block_out_channels", "down_block_types", "up_block_types"))
    kinds = [ATTENDS.get(kind) for kind in down]
    attending = [width for width, attends in zip(widths, kinds, strict=False) if attends]
    attending += widths[-1:] if config["add_attention"] else []
    right: dict[str, tuple[Any, ...]] = {
        "time_embedding_dim": (None, 4 * widths[0]),
        "downsample_padding": (0,) if len(widths) > 1 else (config["downsample_padding"],),
        "out_channels": (config["in_channels"], 2 * config["in_channels"]),
    }
    if attending:  # one head, as wide as the level
        right["attention_head_dim"] = (None, attending[0]) if len(set(attending)) == 1 else (None,)
    if config["add_attention"]:
        right["attn_norm_num_groups"] = (None, config["norm_num_groups"])
    wrong = {name: values[0] for name, values in right.items() if config[name] not in values}
    if None in kinds or len(kinds) != len(widths):
        wrong["down_block_types"] = "DownBlock2D or AttnDownBlock2D"
    if [ATTENDS.get(kind) for kind in reversed(up)] != kinds:
        wrong["up_block_types"] = "the down blocks' kinds in reverse"
    if not isinstance(config["norm_num_groups"], int):
        wrong["norm_num_groups"] = "a number"
    return wrong


def _lengths(sample_size: Any) -> tuple[int, int]:
    """(H, W), which the weights do not depend on."""
    if sample_size is None:
        raise ValueError(f"a {CLASS} without sample_size, so that no shape is known; add it, as in sample_size: 32")
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    return height, width
