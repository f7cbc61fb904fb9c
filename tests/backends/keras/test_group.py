"""Networks trained together in Keras on TensorFlow: perceptrons only."""

from __future__ import annotations

import pytest

from core.reverse import reverse_process
from core.schedules import linear
from tests.backends.contract.groups import GroupContract
from tests.backends.keras.helpers import OnKeras
from tests.backends.reference import mlp_settings, unet_settings

pytestmark = [pytest.mark.keras, pytest.mark.usefixtures("graphs")]  # each map would be traced anew for every step


class TestGroup(OnKeras, GroupContract):
    """What every backend does, for networks without convolutions."""

    largest = mlp_settings()

    def test_signals_are_trained_as_alone(self):
        """They are refused."""
        with pytest.raises(ValueError, match="Keras on tensorflow does not train such networks together"):
            self.group_and_singles(unet_settings(), reverse_process(linear(50)))
