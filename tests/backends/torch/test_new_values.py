"""A new objective and a new prediction in PyTorch."""

from __future__ import annotations

import pytest

from tests.backends.contract.new_values import NewValuesContract
from tests.backends.torch.helpers import OnTorch

pytestmark = pytest.mark.torch


class TestNewValues(OnTorch, NewValuesContract):
    """What every backend does."""
