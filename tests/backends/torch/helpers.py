"""How PyTorch is asked, for the tests that every backend passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import backends.torch


class OnTorch:
    """The two things that `tests.backends.contract.base.Contract` wants to know."""

    backend = backends.torch

    @staticmethod
    def call(network: Any, x_t: np.ndarray, told: np.ndarray) -> np.ndarray:
        """network(x_t, told) as float64 numpy."""
        dtype = next(network.parameters()).dtype
        with torch.no_grad():
            output = network(torch.tensor(x_t, dtype=dtype), torch.tensor(told))
        return output.numpy().astype(np.float64)
