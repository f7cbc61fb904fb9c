"""The right-hand side of the probability flow, and its Jacobian along given probes, by reverse differentiation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.checks import check_network
from backends.interface import Execution
from backends.keras.arrays import namespace, on_device, to_numpy
from backends.keras.engines import ENGINE
from backends.keras.network import MLP, UNet, run_network
from core.arrays import Array
from core.probability_flow import ProbabilityFlow, ProbedField, flow_terms
from core.reverse import ReverseProcess

Function = Callable[[Array], Array]


def flow_field(network: UNet | MLP, process: ReverseProcess, execution: Execution) -> ProbedField:
    """(x (N, ...), log_snr, probes (P, N, ...)) -> dx / d log_snr (N, ...), v^T Jacobian v (P, N); float64 numpy.

    The network is told a fractional step (`core.probability_flow`). One pass forward and P back.
    """
    check_network(network.settings, process)
    flow, xp = ProbabilityFlow(process), namespace(execution)

    def run(x: Array, told: Array, probes: Sequence[Array]) -> tuple[Array, Array]:
        prediction, pulled = _PULLBACKS[ENGINE.name](
            lambda y: process.split(run_network(network, y, told))[0], x, probes
        )
        axes = tuple(range(1, len(x.shape)))
        return prediction, ops.stack([ops.sum(p * v, axis=axes) for p, v in zip(pulled, probes, strict=True)])

    compiled = ENGINE.compiled(run, network.variables, execution.compile)

    def field(x: NDArray[Any], log_snr: float, probes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        expected = (len(x), *network.settings.shape)
        if x.shape != expected or probes.shape[1:] != expected:
            raise ValueError(
                f"x has shape {expected} and probes (P, *{expected}) for this network, got {x.shape} and {probes.shape}"
            )
        at = flow.coefficients(log_snr)
        with on_device(execution.device):
            told = xp.asarray(np.full(len(x), at.network_t))
            prediction, along = compiled(xp.asarray(x), told, [xp.asarray(v) for v in probes])
        return flow_terms(at, x, to_numpy(prediction), probes, to_numpy(along))

    return field


def _on_tensorflow(function: Function, x: Array, cotangents: Sequence[Array]) -> tuple[Array, list[Array]]:
    import tensorflow as tf

    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(x)
        value = function(x)
    return value, [tape.gradient(value, x, v) for v in cotangents]


def _on_jax(function: Function, x: Array, cotangents: Sequence[Array]) -> tuple[Array, list[Array]]:
    import jax

    value, pullback = jax.vjp(function, x)
    return value, [pullback(v)[0] for v in cotangents]


def _on_torch(function: Function, x: Array, cotangents: Sequence[Array]) -> tuple[Array, list[Array]]:
    import torch

    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = function(x)
        pulled = [torch.autograd.grad(value, x, v, retain_graph=True)[0] for v in cotangents]
    return value.detach(), pulled


_PULLBACKS = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
"""The value of a function at x, and its gradients there for given cotangents, one way an engine."""
