"""Runs the maths of `core` on a device: one package per framework, with the same modules and one contract.

`backends.torch` and `backends.keras` never import each other, and neither framework is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import cast

from backends.capabilities import TORCH, Capabilities, keras_capabilities
from backends.interface import Backend

BACKENDS: dict[str, Callable[[], Capabilities]] = {"torch": lambda: TORCH, "keras": keras_capabilities}
"""Backends by name, and what each can do as the environment has it."""


def capabilities(name: str) -> Capabilities:
    """What the backend called `name` can do; imports nothing. ValueError for an unknown one."""
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
    return BACKENDS[name]()


def check_backend(name: str) -> None:
    """ValueError for an unknown backend, ImportError naming the extra for one that is not installed.

    It imports neither framework.
    """
    missing = [package for package in capabilities(name).packages if importlib.util.find_spec(package) is None]
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


def load_backend(name: str) -> Backend:
    """The backend called `name`: `backends.torch` or `backends.keras`, whose framework is imported now."""
    check_backend(name)
    return cast(Backend, importlib.import_module(f"backends.{name}"))
