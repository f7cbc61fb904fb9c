"""The learned schedule in PyTorch."""

from __future__ import annotations

import pytest

from tests.backends.contract.learned_schedule import LearnedScheduleContract
from tests.backends.torch.helpers import OnTorch

pytestmark = pytest.mark.torch


class TestLearnedSchedule(OnTorch, LearnedScheduleContract):
    """What every backend does."""
