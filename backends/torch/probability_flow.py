"""The right-hand side of the probability flow, and its Jacobian along given probes, by reverse differentiation."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from backends.checks import check_network
from backends.interface import Execution
from backends.torch.arrays import namespace, to_numpy
from backends.torch.network import Network, run_network
from core.probability_flow import ProbabilityFlow, ProbedField, flow_terms
from core.reverse import ReverseProcess


def flow_field(network: Network, process: ReverseProcess, execution: Execution) -> ProbedField:
    """(x (N, ...), log_snr, probes (P, N, ...)) -> dx / d log_snr (N, ...), v^T Jacobian v (P, N); float64 numpy.

    The network is told a fractional step (`core.probability_flow`). One pass forward and P back, never compiled: the
    same graph is walked P times.
    """
    check_network(network.settings, process)
    flow, xp = ProbabilityFlow(process), namespace(execution)
    precise = torch.float32 if xp.device.type == "mps" else torch.float64

    def run(x: Tensor, told: Tensor, probes: Tensor) -> tuple[Tensor, list[Tensor]]:
        x.requires_grad_()
        prediction, _ = process.split(run_network(network, x, told, execution))
        along = []
        for left, probe in zip(reversed(range(len(probes))), probes, strict=True):
            (pulled,) = torch.autograd.grad(prediction, x, probe, retain_graph=left > 0)
            along.append((pulled * probe).flatten(1).sum(1))
        return prediction, along

    def field(x: NDArray[Any], log_snr: float, probes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        expected = (len(x), *network.settings.shape)
        if x.shape != expected or probes.shape[1:] != expected:
            raise ValueError(
                f"x has shape {expected} and probes (P, *{expected}) for this network, got {x.shape} and {probes.shape}"
            )
        at = flow.coefficients(log_snr)
        told = torch.full((len(x),), at.network_t, dtype=precise, device=xp.device)
        with torch.enable_grad():
            prediction, along = run(xp.asarray(x), told, xp.asarray(probes))
        return flow_terms(at, x, to_numpy(prediction), probes, to_numpy(torch.stack(along)))

    return field
