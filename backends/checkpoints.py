"""Weights on disk as safetensors, the same for every backend: no framework is imported and no pickle is read.

The file's metadata, text by name, holds the network's settings as JSON, so that a checkpoint can be opened without
being told what it is, and one of another network is refused.
"""

from __future__ import annotations

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
from backends.whole_files import write_whole

NETWORK_KEY = "network"
_NETWORKS: dict[str, type[UNetSettings] | type[MLPSettings]] = {"unet": UNetSettings, "mlp": MLPSettings}


def save_weights(path: Path | str, weights: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Writes arrays and their metadata to `path`, whole or not at all: an older file there stays until then."""
    # C order, because the file has no other: the bytes of a transposed view would be read back scrambled.
    content = save({name: np.array(array, order="C") for name, array in weights.items()}, dict(metadata))
    write_whole(Path(path), lambda file: file.write(content))


def load_weights(path: Path | str) -> tuple[Weights, dict[str, str]]:
    """The arrays and the metadata of a safetensors file. ValueError where it is not one."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def save_network(
    path: Path | str, weights: Weights, settings: NetworkSettings, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a network's weights together with its settings, and whatever else `metadata` says of it."""
    check_weights(settings, weights)
    save_weights(path, weights, {**(metadata or {}), NETWORK_KEY: described_network(settings)})


def load_network_settings(path: Path | str, settings: NetworkSettings | None = None) -> NetworkSettings:
    """The settings that `save_network` wrote; the weights are not read.

    ValueError for a file without them, and, given `settings`, where they are others.
    """
    with _opened(path) as file:
        described = (file.metadata() or {}).get(NETWORK_KEY)
    if described is None:
        raise ValueError(f"{path} does not say which network it is of; load it with load_weights and give the settings")
    try:
        saved = network_described(described)
    except ValueError as error:
        raise ValueError(f"{path} is of {error}") from None
    if settings is not None and saved != settings:
        wanted, there = asdict(settings), asdict(saved)
        differing = [name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name)]
        name = min(differing, default="kind")
        raise ValueError(
            f"{path} is a checkpoint of another network: {name} is {there.get(name)} there, {wanted.get(name)} here; "
            "load it with its own settings"
        )
    return saved


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
