"""The trainer in PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from backends.torch.optimiser import Flat
from core.reverse import reverse_process
from core.schedules import linear
from tests.backends.contract.training import RECIPE, TrainingContract, draws_for
from tests.backends.reference import FLOAT32, FLOAT64, make_draws
from tests.backends.torch.helpers import OnTorch

pytestmark = pytest.mark.torch


class TestTraining(OnTorch, TrainingContract):
    """What every backend does, and torch.compile."""

    @pytest.mark.slow
    def test_a_compiled_step_is_the_eager_one(self):
        """Three steps in float64, to the order of sums."""
        process = reverse_process(linear(50), levels=17)
        trainers = [
            self.backend.place(self.small_network(process), process, execution).trainer("posterior_kl", RECIPE)
            for execution in (FLOAT64, replace(FLOAT64, compile=True))
        ]
        for seed in range(3):
            draws = make_draws(process, (3,), seed=seed)
            eager, compiled = (trainer.losses(trainer.step(draws)) for trainer in trainers)
            np.testing.assert_allclose(compiled, eager, rtol=1e-9, atol=1e-12)
        for name, weight in trainers[0].weights().items():
            np.testing.assert_allclose(trainers[1].weights()[name], weight, rtol=1e-9, atol=1e-10)

    @pytest.mark.slow
    def test_a_compiled_unet_step_is_the_eager_one(self):
        """The U-Net in float32: 1e-4 after three steps, because Adam divides by the root of squared gradients."""
        process = reverse_process(linear(50), levels=17)
        trainers = [self.unet_trainer(process, execution=ex) for ex in (FLOAT32, replace(FLOAT32, compile=True))]
        for draws in draws_for(process, 3):
            eager, compiled = (trainer.losses(trainer.step(draws)) for trainer in trainers)
            np.testing.assert_allclose(compiled, eager, rtol=1e-4)


def test_flat_weights_are_the_networks_own():
    """A step on the vector is a step of the module, whose layouts stay; a weight without gradient has gradient 0."""
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Linear(2, 2))
    module.to(memory_format=torch.channels_last)
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    strides = [weight.stride() for weight in module.parameters()]
    flat = Flat(list(module.parameters()))
    for _ in range(2):
        module[0].weight.square().sum().backward()
        flat.gather_gradient()
        torch.testing.assert_close(flat.views(flat.gradient)[0], 2 * before["0.weight"])
        assert not any(view.any() for view in flat.views(flat.gradient)[1:])
    with torch.no_grad():
        flat.vector += 1
    for name, weight in module.named_parameters():
        torch.testing.assert_close(weight.detach(), before[name] + 1)
    assert [weight.stride() for weight in module.parameters()] == strides
