"""Weights on disk as safetensors, the same for every backend: no framework is imported and no pickle is read.

The file's metadata, text by name, holds the network's settings as JSON, so that a checkpoint can be opened without
being told what it is, and one of another network is refused. It also holds a digest of all that was written: a file
that is damaged is refused, not computed with. A file of `diffusers.UNet2DModel` has the settings in the config.json
beside it (`unet2d_config`). Weights without either are taken at their word: that they fit the names and shapes of a
network does not show that they are of its function.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from backends.interface import Weights
from backends.networks import MLPSettings, NetworkSettings, UNetSettings, check_weights
from backends.unet2d_config import present_name, settings_beside
from backends.whole_files import write_whole

NETWORK_KEY = "network"
DIGEST_KEY = "sha256"
_NETWORKS: dict[str, type[UNetSettings] | type[MLPSettings]] = {"unet": UNetSettings, "mlp": MLPSettings}


def save_weights(path: Path | str, weights: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Writes arrays and their metadata to `path`, whole or not at all: an older file there stays until then.

    Equal arrays and metadata are equal bytes, so that files compare by their hashes.
    """
    # C order, because the file has no other: the bytes of a transposed view would be read back scrambled.
    arrays = {name: np.array(array, order="C") for name, array in weights.items()}
    signed = {**metadata, DIGEST_KEY: _digest(arrays, metadata)}
    content = _in_order(save(arrays, signed))
    write_whole(Path(path), lambda file: file.writelines(content))


def load_weights(path: Path | str) -> tuple[Weights, dict[str, str]]:
    """The arrays and the metadata of a safetensors file.

    ValueError where it is not one, is not what was written, and where the config.json beside it says that it is of a
    `UNet2DModel` that ours is not. Without a config.json weights of a `UNet2DModel` are taken to be of DDPM's settings
    (`unet2d_config.FIXED`), and of as many norm groups as the settings that they are loaded with.
    """
    with _opened(path) as file:
        metadata = dict(file.metadata() or {})
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    signed = metadata.pop(DIGEST_KEY, None)
    if signed is not None and signed != _digest(weights, metadata):
        raise ValueError(f"{path} is damaged: its numbers or its metadata are not those that were written; restore it")
    if NETWORK_KEY not in metadata and settings_beside(path) is not None:
        weights = {present_name(name): weight for name, weight in weights.items()}
    return weights, metadata


def save_network(
    path: Path | str, weights: Weights, settings: NetworkSettings, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a network's weights together with its settings, and whatever else `metadata` says of it."""
    check_weights(settings, weights)
    save_weights(path, weights, {**(metadata or {}), NETWORK_KEY: described_network(settings)})


def load_network_settings(path: Path | str, settings: NetworkSettings | None = None) -> NetworkSettings:
    """The settings that `save_network` wrote, or those of a `UNet2DModel` beside it; the weights are not read.

    ValueError where neither is, and, given `settings`, where they are others.
    """
    with _opened(path) as file:
        described = (file.metadata() or {}).get(NETWORK_KEY)
    saved = settings_beside(path) if described is None else _described_in(path, described)
    if saved is None:
        raise ValueError(f"{path} does not say which network it is of; load it with load_weights and give the settings")
    if settings is not None and saved != settings:
        wanted, there = asdict(settings), asdict(saved)
        differing = [name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name)]
        name = min(differing, default="kind")
        raise ValueError(
            f"{path} is a checkpoint of another network: {name} is {there.get(name)} there, {wanted.get(name)} here; "
            "load it with its own settings"
        )
    return saved


def _described_in(path: Path | str, text: str) -> NetworkSettings:
    try:
        return network_described(text)
    except ValueError as error:
        raise ValueError(f"{path} is of {error}") from None


def described_network(settings: NetworkSettings) -> str:
    """A network's settings as JSON, for `network_described`."""
    kind = next(name for name, cls in _NETWORKS.items() if isinstance(settings, cls))
    return json.dumps({"kind": kind, **asdict(settings)})


def network_described(text: str) -> NetworkSettings:
    """The settings that `described_network` wrote. ValueError for a network that is not known, and for anything else.

    A field that is not there has its default, except the shape.
    """
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or "kind" not in values:
        raise ValueError("a network that is not described: its settings are no JSON object with a kind")
    kind = values.pop("kind")
    if not isinstance(kind, str) or kind not in _NETWORKS:
        raise ValueError(f"an unknown network {kind!r}; known: {', '.join(_NETWORKS)}")
    types = {field.name: str(field.type) for field in fields(_NETWORKS[kind])}
    unknown = sorted(values.keys() - types.keys())
    if unknown or "shape" not in values:
        said = f"unknown {', '.join(unknown)}" if unknown else "no shape"
        raise ValueError(f"a network described in another way: {kind} with {said}; it has {', '.join(types)}")
    for name, value in values.items():
        if not _IS_OF[types[name]](value):
            raise ValueError(f"a network described in another way: {name} is {types[name]}, got {str(value)[:80]}")
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return _NETWORKS[kind](**settings)


def _is_count(value: Any) -> bool:
    return type(value) is int


_IS_OF: dict[str, Callable[[Any], bool]] = {
    "tuple[int, ...]": lambda value: isinstance(value, list) and all(map(_is_count, value)),
    "int": _is_count,
    "bool": lambda value: isinstance(value, bool),
}
"""Whether what JSON gives is of a field's type, by the type's name in the source."""


def load_network(path: Path | str, settings: NetworkSettings | None = None) -> tuple[Weights, NetworkSettings]:
    """The weights and settings of a checkpoint; given `settings`, a ValueError where it is of another network.

    Also where weights are not finite: every output would be NaN.
    """
    saved = load_network_settings(path, settings)
    weights, _ = load_weights(path)
    check_weights(saved, weights)
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise ValueError(
                f"{path}: weight {name} has NaN or infinite values; train it anew, or load it with load_weights"
            )
    return weights, saved


def _opened(path: Path | str) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or not a whole one ({error})") from error


def _digest(arrays: Weights, metadata: Mapping[str, str]) -> str:
    """SHA-256 of names, dtypes, shapes and numbers, and of the metadata, in the order of their names."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _in_order(content: bytes) -> tuple[bytes, bytes, memoryview]:
    """A safetensors file with the metadata in the order of its names, where the library has them as they fall.

    Its parts: the header's length, the header as JSON, filled up to 8 bytes as the format has it, and the numbers.
    https://huggingface.co/docs/safetensors/index#format
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little"), text, memoryview(content)[end:]
