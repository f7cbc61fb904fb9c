"""The Keras backend: the functions of `backends.interface.Backend`, on TensorFlow unless KERAS_BACKEND says otherwise.

Networks are plain `keras.Model`s (`backends.keras.network`) that can be taken away and trained by `fit` or any
other loop.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from backends.interface import Execution
from backends.keras.arrays import namespace, on_device
from backends.keras.engines import ENGINE
from backends.keras.likelihood import bound_terms, loss_and_gradients
from backends.keras.network import export_weights, make_network
from backends.keras.sampling import sample
from backends.keras.training import make_trainer

__all__ = [
    "bound_terms",
    "describe",
    "export_weights",
    "loss_and_gradients",
    "make_network",
    "make_trainer",
    "sample",
]


def describe(execution: Execution) -> dict[str, str]:
    """Framework, versions, device and what decides the arithmetic, in words, for the report."""
    namespace(execution)
    with on_device(execution.device):
        gpus = keras.distribution.list_devices("gpu")
    engine = keras.backend.backend()
    compiled = {"tensorflow": "XLA" if execution.compile else "graph", "jax": "jit", "torch": "eager"}[engine]
    return {
        "framework": "Keras",
        "version": keras.__version__,
        "engine": engine,
        **ENGINE.versions(),
        "device": gpus[0] if gpus and execution.device != "cpu" else "cpu",
        "dtype": execution.dtype,
        "compile": compiled,
    }
