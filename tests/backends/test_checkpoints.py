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
