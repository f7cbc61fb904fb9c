"""How Keras is asked, for the tests that every backend passes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import backends.keras


class OnKeras:
    """The two things that `tests.backends.contract.base.Contract` wants to know."""

    backend = backends.keras

    @staticmethod
    def call(network: Any, x_t: np.ndarray, told: np.ndarray) -> np.ndarray:
        """network([x_t, told]) as float64 numpy."""
        dtype = network.variables[0].dtype
        output = network([keras.ops.convert_to_tensor(x_t.astype(dtype)), keras.ops.convert_to_tensor(told)])
        return keras.ops.convert_to_numpy(output).astype(np.float64)
