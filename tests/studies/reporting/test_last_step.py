"""A report says what x_T still holds of the data, for every schedule whose chain does not end in noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.schedules import from_log_snr, linear
from studies.plan.schedules import write_schedule
from studies.reporting.last_step import at_last_step, left_by_schedule, method_lines
from studies.store.reading import CellRecord, Run


@pytest.fixture
def run_of(tmp_path):
    def run_of(*cells: tuple[str, str, int, Path | None]) -> Run:
        """A run of cells of a run's name, a schedule, its T, and the folder of what was learned."""
        rows = [
            {"run": run, "schedule": words, "metric": "bound_at_t", "t": t, "t_last": t}
            for run, words, num_steps, _ in cells
            for t in (1, num_steps)
        ]
        records = tuple(
            CellRecord(folder or tmp_path, {"schedule": words}, {}, None, True) for _, words, _, folder in cells
        )
        return Run("run", tmp_path, {}, {}, pd.DataFrame(rows), records)

    return run_of


def test_chains_that_end_in_noise_are_not_spoken_of(run_of):
    run = run_of(("a", "linear", 1000, None), ("a", "cosine", 10, None), ("a", "one of another version", 10, None))
    assert (left_by_schedule(run), method_lines(run), at_last_step(run)) == ({}, [], "pure noise")


def test_the_value_is_said_of_those_that_do_not(run_of):
    run = run_of(("a", "linear", 100, None), ("a", "linear:50", 50, None), ("a", "cosine", 100, None))
    left = left_by_schedule(run)
    expected = [np.prod(1 - np.linspace(1e-4, 0.02, num_steps)) for num_steps in (100, 50)]
    assert list(left) == ["linear", "linear:50"]
    np.testing.assert_allclose(list(left.values()), expected, rtol=1e-12)
    assert (
        at_last_step(run) == "noise and what is left of the data (ᾱ = 0.364 with linear and ᾱ = 0.603 with linear:50)"
    )
    first, _ = method_lines(run)
    assert first.startswith(
        "With linear the chain does not end in noise: ᾱ_T = 0.364, so that x_T still is 60 % of x₀."
    )


def test_of_several_runs_the_most_is_said(run_of):
    run = run_of(("a", "linear", 1000, None), ("b", "linear", 100, None))
    assert left_by_schedule(run)["linear"] == pytest.approx(0.364, abs=1e-3)


def test_a_learned_schedule_is_judged_by_what_was_learned(run_of, tmp_path):
    """It began in noise, and one cell of two did not end there."""
    folders = [tmp_path / name for name in ("noise", "left")]
    for folder, last in zip(folders, (-9.0, -2.0), strict=True):
        folder.mkdir()
        write_schedule(folder, linear(2), from_log_snr([9.0, last]))
    run = run_of(*(("a", "learned", 2, folder) for folder in folders))
    assert left_by_schedule(run) == {"learned": pytest.approx(1 / (1 + np.exp(2)))}
