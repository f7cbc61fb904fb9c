"""The learned schedule in Keras on TensorFlow."""

from __future__ import annotations

import pytest

from tests.backends.contract.learned_schedule import LearnedScheduleContract
from tests.backends.keras.helpers import OnKeras

pytestmark = pytest.mark.keras


class TestLearnedSchedule(OnKeras, LearnedScheduleContract):
    """What every backend does; training, of hundreds of steps, as a graph."""

    @pytest.mark.usefixtures("graphs")
    def test_a_learned_schedule_lowers_the_bound(self):
        super().test_a_learned_schedule_lowers_the_bound()
