"""Networks trained together in PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.reverse import reverse_process
from core.schedules import linear
from tests.backends.contract.groups import GroupContract
from tests.backends.reference import FLOAT64, mlp_settings
from tests.backends.torch.helpers import OnTorch

pytestmark = pytest.mark.torch


class TestGroup(OnTorch, GroupContract):
    """What every backend does, and torch.compile."""

    @pytest.mark.slow
    def test_a_compiled_step_is_the_eager_one(self):
        process = reverse_process(linear(50), levels=17)
        eager, _ = self.group_and_singles(mlp_settings(), process)
        compiled, _ = self.group_and_singles(mlp_settings(), process, execution=replace(FLOAT64, compile=True))
        for step in range(3):
            draws = self.batches(process, (3,), step)
            for one, other in zip(eager.losses(eager.step(draws)), compiled.losses(compiled.step(draws)), strict=True):
                np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-12)
