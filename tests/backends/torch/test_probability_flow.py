"""The probability flow's field in PyTorch."""

from __future__ import annotations

import pytest
import torch

from core.oracles import GaussianMixture
from tests.backends.contract.probability_flow import MixtureNetwork, ProbabilityFlowContract
from tests.backends.torch.helpers import OnTorch

pytestmark = pytest.mark.torch


class TorchMixture(MixtureNetwork):
    """epsilon_hat = -sigma times the score: a softmax over components."""

    def __call__(self, x, told):
        weights, means, variances = (
            torch.tensor(part) for part in (self.oracle.weights, self.oracle.means, self.oracle.variances)
        )
        log_snr = self.log_snr(told)[:, None, None]
        share, noise = torch.sigmoid(log_snr), torch.sigmoid(-log_snr)
        total = share * variances + noise
        offset = x[:, None] - torch.sqrt(share) * means
        log_joint = torch.log(weights) - 0.5 * (torch.log(total) + offset**2 / total).sum(2)
        return torch.sqrt(noise[:, 0]) * (torch.softmax(log_joint, 1)[:, :, None] * offset / total).sum(1)


class TestFlow(OnTorch, ProbabilityFlowContract):
    """What every backend does."""

    def mixture_network(self, oracle: GaussianMixture) -> MixtureNetwork:
        return TorchMixture(oracle)
