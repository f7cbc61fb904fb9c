"""How Keras is asked, for the tests that every backend passes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import backends.keras
from backends.keras.layers import attend


class OnKeras:
    """The two things that `tests.backends.contract.base.Contract` wants to know."""

    backend = backends.keras

    @staticmethod
    def call(network: Any, x_t: np.ndarray, told: np.ndarray) -> np.ndarray:
        """network([x_t, told]) as float64 numpy."""
        dtype = network.variables[0].dtype
        output = network([keras.ops.convert_to_tensor(x_t.astype(dtype)), keras.ops.convert_to_tensor(told)])
        return keras.ops.convert_to_numpy(output).astype(np.float64)


def check_attention(length: int, tolerance: float, dtype: str = "float64") -> None:
    """`attend` of 3 examples against softmax(q k^T / sqrt(E)) v by numpy in float64."""
    query, key, value = np.random.default_rng(length).standard_normal((3, 3, length, 4))
    scores = np.exp(query @ key.swapaxes(1, 2) / 2)
    expected = scores / scores.sum(axis=2, keepdims=True) @ value
    ours = attend(*(keras.ops.convert_to_tensor(part.astype(dtype)) for part in (query, key, value)))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), expected, atol=tolerance)
