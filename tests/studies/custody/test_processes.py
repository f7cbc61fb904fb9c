"""One process: what a cell trains is what its bound, flow and chains are of, and chains do no more than they are asked.

The settings are all others than the defaults of `reverse_process` and `make_sampler`, to which one left out would fall.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.checkpoints import load_weights
from core.reverse import ReverseProcess
from core.samplers import make_sampler
from tests.studies.custody.entry import checkpoint_of, make_cell, run_alone, write_points
from tests.studies.custody.fake_backend import FakeBackend, MadeField

FACTORS = {"prediction": "x_0", "variance": "beta"}
SETTINGS: dict[str, Any] = {"first_variance": "beta", "sampler": "ddim", "flow_examples": 4}
LEVELS = 9


@pytest.fixture
def on_levels(tmp_path: Path) -> Path:
    path = write_points(tmp_path / "levels.npz", levels=LEVELS)
    data = dict(np.load(path))
    for name in ("train", "test"):
        data[name] = np.clip(np.rint(4 * data[name]), -4, 4) / 4
    np.savez(path, **data)
    return path


def kind_of(process: ReverseProcess) -> tuple[str, str, str, int | None]:
    return process.prediction.name, process.variance.name, process.first_variance, process.levels


def test_every_stage_is_of_the_process_that_was_trained(fake: FakeBackend, on_levels: Path, tmp_path: Path):
    """The shorter chain has the same process on the steps that it visits: 1 + 11 k / 3, rounded."""
    cell = make_cell(on_levels, **FACTORS)
    run_alone(tmp_path, cell, fake, on_levels, **SETTINGS)
    (trained,), (evaluation,), (field,) = fake.trainings, fake.evaluations, fake.of(MadeField)
    respaced, whole = (chain.process for chain in evaluation.chains)
    for process in (trained.process, evaluation.made.process, field.process, respaced, whole):
        assert kind_of(process) == ("x_0", "beta", "beta", LEVELS)
    alpha_bar = trained.process.schedule.alpha_bar
    for process in (evaluation.made.process, field.process, whole):
        np.testing.assert_array_equal(process.schedule.alpha_bar, alpha_bar)
    assert respaced.schedule.steps.tolist() == [0, 1, 5, 8, 12]
    np.testing.assert_allclose(respaced.schedule.alpha_bar, alpha_bar[[0, 1, 5, 8, 12]], rtol=1e-12)
    _, said = load_weights(checkpoint_of(tmp_path, cell))
    process_said = {"prediction": "x_0", "variance": "beta", "first_variance": "beta", "levels": "9", "num_steps": "12"}
    assert said.items() >= {**process_said, "schedule": "cosine"}.items()


@pytest.mark.parametrize("clip", [None, 0.7])
def test_chains_are_of_the_sampler_asked_for_and_the_whole_one_is_ancestral(fake, points, tmp_path, clip):
    """Clipped where that is asked for, and only there; DDIM adds no noise and is given none."""
    run_alone(tmp_path, make_cell(points), fake, points, **SETTINGS, clip_x_0=clip)
    respaced, whole = fake.evaluations[0].chains
    for chain, name in ((respaced, "ddim"), (whole, "ancestral")):
        expected: Any = make_sampler(name, clip=clip)
        sampler: Any = chain.sampler
        assert (sampler.func, sampler.keywords) == (expected.func, expected.keywords)
    assert make_sampler("ddim", clip=clip).keywords == {"clip": clip, "eta": 0.0}  # type: ignore[attr-defined]
    assert not respaced.noise
    assert len(whole.noise) == 12
