"""The Keras backend: the functions of `backends.interface.Backend`, on TensorFlow unless KERAS_BACKEND says otherwise.

Networks are plain `keras.Model`s (`backends.keras.network`) that can be taken away and trained by `fit` or any
other loop.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np

import backends.keras.start  # noqa: F401  (first, for its effect)
from backends.interface import Execution
from backends.keras.arrays import device_name, namespace
from backends.keras.engines import ENGINE
from backends.keras.group import make_group_trainer
from backends.keras.network import export_weights, make_network
from backends.keras.placed import place

__all__ = [
    "describe",
    "export_weights",
    "make_group_trainer",
    "make_network",
    "place",
]


def describe(execution: Execution) -> dict[str, str]:
    """Framework, versions, device and what decides the arithmetic, in words, for the report."""
    namespace(execution)
    return {
        "framework": "Keras",
        "version": version("keras"),
        "engine": ENGINE.name,
        ENGINE.name: ENGINE.version,
        "numpy": np.__version__,
        "device": device_name(execution.device),
        "dtype": execution.dtype,
        "compile": ENGINE.compiler[execution.compile],
    }
