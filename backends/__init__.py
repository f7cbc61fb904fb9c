"""Runs the maths of `core` on a device: one package per framework, with the same five modules and one contract.

`backends.torch` and `backends.keras` never import each other, and neither framework is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import cast

from backends.interface import Backend
from backends.networks import MLPSettings, NetworkSettings

BACKENDS: dict[str, tuple[str, ...]] = {"torch": ("torch",), "keras": ("keras",)}
"""Backends by name, and the packages that each needs before anything else."""

KERAS_ENGINES: dict[str, str] = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}


def check_backend(name: str) -> None:
    """ValueError for an unknown backend, ImportError naming the extra for one that is not installed.

    It imports neither framework.
    """
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
    needed = [*BACKENDS[name]]
    if name == "keras":
        engine = os.environ.get("KERAS_BACKEND", "tensorflow")
        if engine not in KERAS_ENGINES:
            raise ValueError(f"KERAS_BACKEND is one of {', '.join(KERAS_ENGINES)}, got {engine!r}")
        needed.append(KERAS_ENGINES[engine])
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        raise ImportError(
            f"the {name} backend needs {' and '.join(missing)}, not installed here: "
            f"pip install 'diffusion-objectives[{name}]'"
        )


def installed_backends() -> list[str]:
    """The names of the backends whose packages are installed; imports none of them."""
    names = []
    for name in BACKENDS:
        try:
            check_backend(name)
        except ImportError:
            continue
        names.append(name)
    return names


def trains_together(name: str, settings: NetworkSettings) -> bool:
    """Whether the backend's `make_group_trainer` takes networks of `settings`; imports nothing.

    TensorFlow has no convolution over a batch of kernels whose gradient runs everywhere, and PyTorch under Keras lays
    signals out in a way that its `vmap` refuses.
    """
    engine = os.environ.get("KERAS_BACKEND", "tensorflow")
    return name == "torch" or engine == "jax" or (engine == "tensorflow" and isinstance(settings, MLPSettings))


def load_backend(name: str) -> Backend:
    """The backend called `name`: `backends.torch` or `backends.keras`, whose framework is imported now."""
    check_backend(name)
    return cast(Backend, importlib.import_module(f"backends.{name}"))
