"""The probability flow's field in Keras, and the fractional steps its networks are told."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import backends.keras as backend
from backends.interface import Execution
from backends.keras.layers import TimeFeatures
from backends.networks import time_frequencies
from core.oracles import GaussianMixture
from core.reverse import reverse_process
from core.schedules import linear
from tests.backends.contract.probability_flow import MixtureNetwork, ProbabilityFlowContract
from tests.backends.keras.helpers import OnKeras
from tests.backends.reference import FLOAT64

pytestmark = pytest.mark.keras


class KerasMixture(MixtureNetwork):
    """epsilon_hat = -sigma times the score: a softmax over components."""

    def __call__(self, x, told):
        weights, means, variances = (
            ops.convert_to_tensor(part) for part in (self.oracle.weights, self.oracle.means, self.oracle.variances)
        )
        log_snr = ops.reshape(self.log_snr(told), (-1, 1, 1))
        share, noise = ops.sigmoid(log_snr), ops.sigmoid(-log_snr)
        total = share * variances + noise
        offset = ops.expand_dims(x, 1) - ops.sqrt(share) * means
        log_joint = ops.log(weights) - 0.5 * ops.sum(ops.log(total) + offset**2 / total, axis=2)
        responsibility = ops.expand_dims(ops.softmax(log_joint, axis=1), 2)
        return ops.sqrt(noise[:, 0]) * ops.sum(responsibility * offset / total, axis=1)


class TestFlow(OnKeras, ProbabilityFlowContract):
    """What every backend does, and what graphs change."""

    def mixture_network(self, oracle: GaussianMixture) -> MixtureNetwork:
        return KerasMixture(oracle)

    @pytest.mark.usefixtures("graphs")
    @pytest.mark.parametrize("xla", [False, True])
    def test_compiled_agrees_with_op_by_op(self, xla):
        """float64, so only the order of sums differs; also for another number of probes than before."""
        process = reverse_process(linear(100))
        network = self.small_network(process)
        compiled = backend.place(network, process, Execution(device="cpu", dtype="float64", compile=xla)).flow_field()
        x = np.random.default_rng(0).standard_normal((4, 3))
        for count in (3, 1):
            probes = np.random.default_rng(1).standard_normal((count, 4, 3))
            fast = compiled(x, 0.5, probes)
            tf.config.run_functions_eagerly(True)
            slow = backend.place(network, process, FLOAT64).flow_field()(x, 0.5, probes)
            tf.config.run_functions_eagerly(False)
            for ours, theirs in zip(fast, slow, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 5e-7)])
def test_time_features_of_fractional_steps(dtype, tolerance):
    """[sin(w (t - 1)), cos(w (t - 1))] of the t that the dtype holds, between whole steps as at them."""
    t = np.random.default_rng(0).uniform(1, 4000, 500).astype(dtype)
    phase = (t.astype(np.float64) - 1)[:, None] * time_frequencies(64)
    ours = ops.convert_to_numpy(TimeFeatures(64, dtype=dtype)(ops.convert_to_tensor(t)))
    np.testing.assert_allclose(ours, np.concatenate([np.sin(phase), np.cos(phase)], axis=1), atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_whole_steps_are_the_same_numbers_as_integers_and_as_floats(dtype):
    """Bit for bit the sum formula on two table entries, as if there were no fractions and no step beyond 65,536."""
    t = np.append(np.arange(1, 300), [999, 1000, 4000, 65_536])
    layer = TimeFeatures(64, dtype=dtype)
    near, far = (t - 1) % 64, (t - 1) // 64
    (sin_far, cos_far), (sin_near, cos_near) = (
        [ops.convert_to_tensor(table[rows]) for table in pair]
        for pair, rows in zip(layer.tables[:2], (far, near), strict=True)
    )
    sine, cosine = sin_far * cos_near + cos_far * sin_near, cos_far * cos_near - sin_far * sin_near
    expected = ops.convert_to_numpy(ops.cast(ops.concatenate([sine, cosine], axis=1), "float64"))
    for steps in (t.astype(np.int32), t.astype(np.float32)):
        ours = ops.convert_to_numpy(ops.cast(layer(ops.convert_to_tensor(steps)), "float64"))
        np.testing.assert_array_equal(ours, expected)
