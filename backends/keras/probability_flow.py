"""The right-hand side of the probability flow, and its Jacobian along given probes, by reverse differentiation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.checks import check_probes
from backends.keras.arrays import KerasNamespace, to_numpy
from backends.keras.engines import ENGINE
from backends.parts import Parts
from core.arrays import Array
from core.probability_flow import ProbabilityFlow, ProbedField, flow_terms


def flow_field(model: Parts[KerasNamespace]) -> ProbedField:
    """(x (N, ...), log_snr, probes (P, N, ...)) -> dx / d log_snr (N, ...), v^T Jacobian v (P, N); float64 numpy.

    The network is called with a fractional step (`core.probability_flow`). One pass forward and P back.
    """
    network, process, xp = model.network, model.process, model.xp
    flow = ProbabilityFlow(process)

    def run(x: Array, network_t: Array, probes: Sequence[Array]) -> tuple[Array, Array]:
        prediction, pulled = ENGINE.pulled_back(
            lambda y: process.split(model.evaluate(network, y, network_t))[0], x, probes
        )
        axes = tuple(range(1, len(x.shape)))
        return prediction, ops.stack([ops.sum(p * v, axis=axes) for p, v in zip(pulled, probes, strict=True)])

    compiled = model.compiled(run)

    def field(x: NDArray[Any], log_snr: float, probes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        check_probes(x, probes, network.settings)
        at = flow.coefficients(log_snr)
        with model.placing():
            network_t = xp.asarray(np.full(len(x), at.network_t))
            prediction, along = compiled(xp.asarray(x), network_t, [xp.asarray(v) for v in probes])
        return flow_terms(at, x, to_numpy(prediction), probes, to_numpy(along))

    return field
