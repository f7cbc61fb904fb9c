"""Weights on disk: what goes in comes out, and what is not a network's checkpoint is refused in one line."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from backends import checkpoints
from backends.networks import MLPSettings, UNetSettings, initial_weights

UNET = UNetSettings((8, 8, 1), widths=(8, 16), attention_levels=(1,), norm_groups=4)
MLP = MLPSettings((2,), width=8, depth=1, time_features=4)


def test_arrays_and_metadata_come_back_as_they_were(tmp_path):
    """Bit for bit and by dtype; a transposed view and a zero-dimensional step among them."""
    arrays = {
        "a": np.random.default_rng(0).standard_normal((3, 4)).T,
        "b": np.float32([[1, 2], [3, 4]])[::-1],
        "step": np.array(7, dtype=np.int64),
    }
    checkpoints.save_weights(tmp_path / "state.safetensors", arrays, {"seconds": "1.5"})
    back, metadata = checkpoints.load_weights(tmp_path / "state.safetensors")
    assert metadata == {"seconds": "1.5"}
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize("settings", [UNET, MLP])
def test_a_network_says_what_it_is(settings, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    weights = initial_weights(settings, 0)
    checkpoints.save_network(path, weights, settings, {"objective": "hybrid"})
    assert checkpoints.load_network_settings(path) == settings
    back, found = checkpoints.load_network(path, settings)
    assert found == settings
    assert back.keys() == weights.keys()
    assert checkpoints.load_weights(path)[1]["objective"] == "hybrid"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(UNET, widths=(8, 8)), r"widths is \(8, 16\) there, \(8, 8\) here"),
        (replace(UNET, attention_levels=()), r"attention_levels is \(1,\) there"),
        (replace(UNET, learns_variance=True), "learns_variance is False there, True here"),
        (MLP, "another network"),
    ],
)
def test_a_checkpoint_of_another_network_is_one_clear_error(other, message, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    checkpoints.save_network(path, initial_weights(UNET, 0), UNET)
    with pytest.raises(ValueError, match=message) as caught:
        checkpoints.load_network(path, other)
    assert "\n" not in str(caught.value)


def test_weights_are_checked_before_they_are_written(tmp_path):
    with pytest.raises(ValueError, match="another network"):
        checkpoints.save_network(tmp_path / "checkpoint.safetensors", initial_weights(MLP, 0), UNET)
    assert not list(tmp_path.iterdir())


def test_a_file_without_settings_says_so(tmp_path):
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    safetensors.numpy.save_file({"w": np.ones(2)}, path)
    with pytest.raises(ValueError, match="does not say which network it is of"):
        checkpoints.load_network_settings(path)
    assert checkpoints.load_weights(path)[1] == {}


MLP_SAID = {"kind": "mlp", "shape": [2], "width": 8, "depth": 1, "time_features": 4, "learns_variance": False}
UNET_SAID = {"kind": "unet", "shape": [8, 8, 1], "widths": [8, 16]}


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ("", "a network that is not described: its settings are no JSON object with a kind"),
        ("{}", "a network that is not described"),
        ("[]", "a network that is not described"),
        ("null", "a network that is not described"),
        ("[" * 100_000, "a network that is not described"),
        ({**MLP_SAID, "kind": "vit"}, "an unknown network 'vit'; known: unet, mlp"),
        ({**MLP_SAID, "kind": []}, r"an unknown network \[\]; known: unet, mlp"),
        ({**MLP_SAID, "dropout": 0.1, "act": "relu"}, "mlp with unknown act, dropout; it has shape, width, depth, "),
        ({"kind": "mlp", "width": 8}, "mlp with no shape"),
        ({**MLP_SAID, "width": "8"}, "width is int, got 8"),
        ({**MLP_SAID, "width": True}, "width is int, got True"),
        ({**MLP_SAID, "width": None}, "width is int, got None"),
        ({**MLP_SAID, "shape": 2}, r"shape is tuple\[int, ...\], got 2"),
        ({**MLP_SAID, "learns_variance": 0}, "learns_variance is bool, got 0"),
        ({**MLP_SAID, "shape": []}, r"an mlp takes points of shape \(D,\)"),
        ({**MLP_SAID, "depth": -1}, "an mlp has a width, a depth and points of at least 1"),
        ({**MLP_SAID, "time_features": 3}, "time_features is even"),
        ({**UNET_SAID, "widths": [8, [16]]}, r"widths is tuple\[int, ...\], got"),
        ({**UNET_SAID, "shape": []}, "a U-Net takes signals"),
        ({**UNET_SAID, "shape": [8, 8, 0]}, "lengths, channels and blocks_per_level are at least 1"),
    ],
)
def test_a_network_described_otherwise_is_one_clear_error(described, message, tmp_path):
    """By another program or version, or by hand."""
    text = described if isinstance(described, str) else json.dumps(described)
    path = tmp_path / "checkpoint.safetensors"
    checkpoints.save_weights(path, initial_weights(MLP, 0), {checkpoints.NETWORK_KEY: text})
    with pytest.raises(ValueError, match=message) as caught:
        checkpoints.load_network(path)
    assert str(caught.value).startswith(f"{path} is of ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_a_network_s(value, tmp_path):
    """One of them makes every output NaN; as arrays they can be looked at."""
    path = tmp_path / "checkpoint.safetensors"
    weights = initial_weights(MLP, 0)
    weights["linear_out.bias"][1] = value
    checkpoints.save_network(path, weights, MLP)
    with pytest.raises(ValueError, match=r"checkpoint.safetensors: weight linear_out.bias has NaN or infinite values"):
        checkpoints.load_network(path, MLP)
    np.testing.assert_array_equal(checkpoints.load_weights(path)[0]["linear_out.bias"], weights["linear_out.bias"])


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", None])
def test_a_broken_file_is_one_clear_error(content, tmp_path):
    """Empty, of another kind, or cut off in the middle."""
    path = tmp_path / "checkpoint.safetensors"
    checkpoints.save_network(path, initial_weights(MLP, 0), MLP)
    path.write_bytes(path.read_bytes()[:-8] if content is None else content)
    with pytest.raises(ValueError, match="not a safetensors file, or not a whole one") as caught:
        checkpoints.load_weights(path)
    assert "\n" not in str(caught.value)


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    """One bit of every byte: refused in one line, or what is read is what was written.

    As where spaces fill up the header, or it was in the name that the digest goes by.
    """
    path, arrays = tmp_path / "state.safetensors", {"a": np.float32([1, 2]), "step": np.array(7)}
    checkpoints.save_weights(path, arrays, {"rows": "[]", "seconds": "1.5"})
    content, refused = path.read_bytes(), 0
    for i in range(len(content)):
        damaged = bytearray(content)
        damaged[i] ^= 1 << i % 8
        path.write_bytes(damaged)
        try:
            back, metadata = checkpoints.load_weights(path)
        except ValueError as error:
            refused += "\n" not in str(error)
        else:
            assert metadata.items() >= {"rows": "[]", "seconds": "1.5"}.items()
            assert {name: array.tobytes() for name, array in back.items()} == {
                name: array.tobytes() for name, array in arrays.items()
            }
    assert refused > 0.9 * len(content)


def test_equal_checkpoints_are_equal_bytes(tmp_path):
    """Whatever order metadata come in, of which the library writes the entries as they fall, anew in each process."""
    metadata = {name: name for name in "abcdefgh"}
    for name, entries in (("a", metadata), ("b", dict(reversed(metadata.items())))):
        checkpoints.save_weights(tmp_path / name, {"w": np.ones(3), "v": np.zeros((2, 1), np.float32)}, entries)
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert list(json.loads(content[8 : 8 + length])["__metadata__"]) == [*metadata, "sha256"]
    with safetensors.safe_open(tmp_path / "a", framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("w"), np.ones(3))


def test_a_failed_write_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    checkpoints.save_weights(path, {"a": np.zeros(3)}, {})
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        checkpoints.save_weights(path, {"a": np.ones(3)}, {})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.safetensors"]


def beside(folder, content):
    """The path of weights without settings, with a config.json beside them."""
    safetensors.numpy.save_file({"w": np.ones(2)}, folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"_class_name": "UNet2DModel"}, "another function"),
        (
            {"_class_name": "UNet2DModel", "freq_shift": 1, "new_setting": 3},
            r"new_setting 3 \(ours has none\)",
        ),
        ({"_class_name": "UNet2DModel", "block_out_channels": 8}, "is no settings of a network that can be read; move"),
        ("{", "is no settings of a network that can be read; move it away from"),
    ],
)
def test_a_config_of_another_function_is_one_clear_error(content, message, tmp_path):
    path = beside(tmp_path, content)
    for load in (checkpoints.load_weights, checkpoints.load_network_settings):
        with pytest.raises(ValueError, match=message) as caught:
            load(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"_class_name": "AutoencoderKL"}, {}, []])
def test_a_config_of_something_else_says_nothing(content, tmp_path):
    path = beside(tmp_path, content)
    assert checkpoints.load_weights(path)[1] == {}
    with pytest.raises(ValueError, match="does not say which network it is of"):
        checkpoints.load_network_settings(path)


def test_a_checkpoint_of_ours_needs_no_config(tmp_path):
    """Its own metadata say what it is of, whatever lies beside it."""
    beside(tmp_path, {"_class_name": "UNet2DModel"})
    path = tmp_path / "checkpoint.safetensors"
    checkpoints.save_network(path, initial_weights(UNET, 0), UNET)
    assert checkpoints.load_network(path)[1] == UNET
