"""Schedules of a study by name: which chains end in noise, and what is said of those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from core.bounds import prior_kl
from core.schedules import from_log_snr, make_schedule
from studies.datasets import load_dataset
from studies.plan.announcement import announcement
from studies.plan.grid import grid
from studies.plan.schedules import MOST_LEFT, left_at_the_end
from studies.plan.settings import PRESETS, StudySettings


@pytest.mark.parametrize(
    ("words", "num_steps", "left"),
    [
        ("linear", 1000, None),  # Ho et al. (2020): 4e-5
        ("linear", 100, "linear with T = 100 ends at alpha_bar_T = 0.364"),
        ("linear:100", 1000, "linear:100 with T = 100 ends at alpha_bar_T = 0.364"),
        ("linear:250", 1000, "0.0797"),
        ("learned-linear", 100, "learned-linear with T = 100 starts at alpha_bar_T = 0.364"),
        ("quadratic", 250, "0.16"),
        ("linear-scaled", 100, None),
        ("cosine", 10, None),
        ("sigmoid", 10, None),
        ("log-linear", 40, None),
    ],
)
def test_a_chain_that_does_not_end_in_noise(words, num_steps, left):
    remark = left_at_the_end(words, num_steps)
    assert (left in remark) if left else (remark == "")


def test_linear_noise_by_hand():
    """The product of 1 - beta of 100 steps from 1e-4 to 0.02."""
    assert np.prod(1 - np.linspace(1e-4, 0.02, 100)) == pytest.approx(0.3636, abs=1e-4)


def test_what_the_most_that_may_be_left_costs():
    """0.007 bits/dim for data of unit scale, and a tenth of x_0."""
    schedule = from_log_snr([5.0, np.log(MOST_LEFT / (1 - MOST_LEFT))])
    assert schedule.alpha_bar[-1] == pytest.approx(MOST_LEFT)
    assert float(prior_kl(schedule, np.ones((1, 1)))[0]) / np.log(2) == pytest.approx(0.007, abs=5e-4)
    assert np.sqrt(MOST_LEFT) == pytest.approx(0.1)


def test_it_is_said_before_the_run_once_a_schedule():
    settings = StudySettings(
        backends=("torch",), num_steps=100, schedules=("linear", "cosine", "linear:50"), full_samples=0
    )
    notes = [
        line for line in announcement(settings, grid(settings), load_dataset("digits")).splitlines() if "note" in line
    ]
    assert len(notes) == 2
    assert notes[0].startswith("  note: linear with T = 100 ends at alpha_bar_T = 0.364: x_T is not noise, and samples")
    assert notes[1].startswith("  note: linear:50 with T = 50 ends at alpha_bar_T = 0.603")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_end_in_noise(preset):
    settings = StudySettings(**PRESETS[preset])
    for words in settings.schedules:
        assert make_schedule(words, settings.num_steps).alpha_bar[-1] <= MOST_LEFT
