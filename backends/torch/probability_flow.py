"""The right-hand side of the probability flow, and its Jacobian along given probes, by reverse differentiation."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from backends.checks import check_probes
from backends.parts import Parts
from backends.torch.arrays import TorchNamespace, to_numpy
from core.probability_flow import ProbabilityFlow, ProbedField, flow_terms


def flow_field(model: Parts[TorchNamespace]) -> ProbedField:
    """(x (N, ...), log_snr, probes (P, N, ...)) -> dx / d log_snr (N, ...), v^T Jacobian v (P, N); float64 numpy.

    The network is called with a fractional step (`core.probability_flow`). One pass forward and P back, never compiled:
    the same graph is walked P times.
    """
    network, process, xp = model.network, model.process, model.xp
    flow = ProbabilityFlow(process)
    precise = torch.float32 if xp.device.type == "mps" else torch.float64

    def run(x: Tensor, network_t: Tensor, probes: Tensor) -> tuple[Tensor, list[Tensor]]:
        x.requires_grad_()
        prediction, _ = process.split(model.evaluate(network, x, network_t))
        along = []
        for left, probe in zip(reversed(range(len(probes))), probes, strict=True):
            (pulled,) = torch.autograd.grad(prediction, x, probe, retain_graph=left > 0)
            along.append((pulled * probe).flatten(1).sum(1))
        return prediction, along

    def field(x: NDArray[Any], log_snr: float, probes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        check_probes(x, probes, network.settings)
        at = flow.coefficients(log_snr)
        network_t = torch.full((len(x),), at.network_t, dtype=precise, device=xp.device)
        with torch.enable_grad():
            prediction, along = run(xp.asarray(x), network_t, xp.asarray(probes))
        return flow_terms(at, x, to_numpy(prediction), probes, to_numpy(torch.stack(along)))

    return field
