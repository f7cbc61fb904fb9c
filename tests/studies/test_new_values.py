"""A new objective in a study: its history under importance sampling is of its own loss."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from core.objectives import OBJECTIVES, Losses
from core.reverse import reverse_process
from core.schedules import linear
from studies.cell.record import Record
from studies.store.folder import CellFolder
from tests.new_values import INVENTED_MSE

MSE, KL, TRAINED = np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([5.0, 6.0])


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("invented_mse", TRAINED),
        ("epsilon_mse", TRAINED),
        ("posterior_kl", KL),
        ("target_mse", TRAINED),
        ("hybrid", KL),
    ],
)
def test_history_under_importance_sampling(objective, expected, monkeypatch, tmp_path):
    """The loss that is trained, which for the KL is the one in nats, and for the hybrid its KL."""
    monkeypatch.setitem(OBJECTIVES, INVENTED_MSE.name, INVENTED_MSE)
    cell = SimpleNamespace(objective=objective)
    record = Record(SimpleNamespace(cell=cell, start=reverse_process(linear(3)), folder=CellFolder(tmp_path)))
    record.remember(np.array([1, 3]), Losses(MSE, KL, TRAINED), step=1)
    np.testing.assert_array_equal(record.moments.losses[[0, 2], -1], expected)
    np.testing.assert_array_equal(record.moments.counts, [1, 0, 1])
