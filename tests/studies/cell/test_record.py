"""What a cell's training has brought is what it goes on from: saved and read again whole, under its own names."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from safetensors.numpy import load_file

from core.reverse import reverse_process
from core.schedules import linear
from core.timesteps import SecondMoments
from studies.cell.record import Record
from studies.store.folder import CellFolder


def test_a_record_goes_on_from_its_file(tmp_path):
    context = SimpleNamespace(start=reverse_process(linear(3)), folder=CellFolder(tmp_path))
    fresh = Record(context)
    assert (fresh.trainer_state, fresh.steps_taken, fresh.seconds, fresh.rows, fresh.sketches) == (None, 0, 0.0, [], {})
    saved = Record(context)
    saved.moments = SecondMoments(np.arange(30.0).reshape(3, 10), np.array([10, 4, 0]))
    saved.sketches = {7: np.array([1.5, 2.5]), 70: np.array([0.5])}
    saved.rows, saved.seconds = [{"metric": "train_epsilon_mse", "value": 0.25, "step": 7}], 1.5
    saved.processor_seconds = 4.0
    saved.save({"step": np.array(9), "ema/conv.weight": np.array([3.0, 4.0])}, seconds=0.25, processor_seconds=2.0)

    again = Record(context)
    assert set(again.trainer_state) == {"step", "ema/conv.weight"}
    np.testing.assert_array_equal(again.trainer_state["ema/conv.weight"], [3.0, 4.0])
    assert again.steps_taken == 9
    np.testing.assert_array_equal(again.moments.losses, saved.moments.losses)
    np.testing.assert_array_equal(again.moments.counts, saved.moments.counts)
    assert list(again.sketches) == [7, 70]
    np.testing.assert_array_equal(again.sketches[7], [1.5, 2.5])
    assert (again.rows, again.seconds, again.processor_seconds) == (saved.rows, 1.75, 6.0)
    assert set(load_file(context.folder.state)) == {
        "trainer/step", "trainer/ema/conv.weight", "moments/losses", "moments/counts", "sketch/7", "sketch/70"
    }  # fmt: skip


def test_a_state_of_before_they_were_counted_leaves_processor_seconds_unknown(tmp_path):
    """And it stays so: a part of them would pass for all."""
    context = SimpleNamespace(start=reverse_process(linear(3)), folder=CellFolder(tmp_path))
    older = Record(context)
    older.processor_seconds = None
    older.save({"step": np.array(9)}, seconds=0.25, processor_seconds=2.0)
    assert Record(context).processor_seconds is None
