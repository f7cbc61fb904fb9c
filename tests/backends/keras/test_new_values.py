"""A new objective and a new prediction in Keras."""

from __future__ import annotations

import pytest

from tests.backends.contract.new_values import NewValuesContract
from tests.backends.keras.helpers import OnKeras

pytestmark = pytest.mark.keras


class TestNewValues(OnKeras, NewValuesContract):
    """What every backend does."""
