"""All rows of a few cells, number by number: what a cell writes changes by decision only.

The numbers were written by the code itself (`python -m tests.studies.custody.test_pinned_rows` writes them again). They
say nothing of being right, which the other tests do, but no draw, weight, unit or column of a cell can change unseen.
No framework is needed: the losses are closed formulas of all that a backend is given.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.studies.custody.entry import make_cell, read_rows, run_alone, write_points
from tests.studies.custody.fake_backend import FakeBackend

PINNED = Path(__file__).with_name("pinned")
CASES = {
    # the density is known, strata of several steps, t by the losses seen, the divergence exact, other chains
    "mixture": (
        {"prediction": "v", "timesteps": "importance", "objective": "posterior_kl", "seed": 3},
        {"num_steps": 30, "train_steps": 130, "batch_size": 16, "test_examples": 20, "bound_evaluations": 60}
        | {"sampler": "ddim", "first_variance": "beta", "clip_x_0": 1.5, "samples": 70},
    ),
    # on levels, more dims than the divergence is exact for, t stratified, a learned variance, a bound to a given error
    "levels": (
        {"schedule": "linear", "variance": "learned_range", "objective": "hybrid", "timesteps": "stratified"},
        {"num_steps": 15, "bound_se": 0.5, "flow_examples": 3, "train_steps": 65, "full_samples": 0},
    ),
    # continuous data of unknown density, a learned schedule
    "points": ({"schedule": "learned", "objective": "posterior_kl", "seed": 1}, {"num_steps": 25}),
}


def levels(folder: Path) -> Path:
    """20 numbers an example, on 5 levels."""
    rng = np.random.default_rng(5)
    train, test = (rng.integers(0, 5, (count, 20)) / 2 - 1.0 for count in (24, 12))
    np.savez(folder / "levels.npz", train=train, test=test, levels=np.array(5))
    return folder / "levels.npz"


def rows_of(case: str, folder: Path, fake: FakeBackend) -> pd.DataFrame:
    """The cell's rows, without its times."""
    dataset = {"mixture": lambda: "mixture", "levels": lambda: levels(folder), "points": lambda: points(folder)}[case]()
    factors, settings = CASES[case]
    cell = make_cell(dataset, **factors)
    run_alone(folder, cell, fake, dataset, **settings)
    rows = read_rows(folder, cell)
    return rows[~rows["metric"].str.endswith("seconds")].reset_index(drop=True)


def points(folder: Path) -> Path:
    return write_points(folder / "points.npz")


@pytest.mark.parametrize("case", CASES)
def test_rows_are_these(case, fake, tmp_path):
    """Names, units and order exactly; numbers to 1e-7, for sums in another order and scipy's next version."""
    rows = rows_of(case, tmp_path, fake)
    pinned = pd.read_csv(PINNED / f"{case}.csv")
    pd.testing.assert_frame_equal(rows, pinned, check_exact=False, rtol=1e-7, atol=1e-9)


def main() -> None:
    from tests.studies.custody.conftest import installed_fakes

    for case in sys.argv[1:] or CASES:
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
            fake = installed_fakes(patch)["fake_one"]
            rows_of(case, Path(folder), fake).to_csv(PINNED / f"{case}.csv", index=False)


if __name__ == "__main__":
    main()
