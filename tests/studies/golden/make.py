"""The golden run: a study's results kept as numbers, so that a change of behaviour is a decision and not an accident.

    python tests/studies/golden/make.py

runs it again in every installed framework (seconds each), rewrites that framework's column of golden.csv and all of
golden.json, and leaves the other columns alone. Do so where behaviour was meant to change, look at the difference
(`git diff --stat`, `git diff`), and say in the commit why the numbers moved. Keras runs on TensorFlow.

The run is the preset "smoke" with a short chain, so that importance sampling has its history early, and with few
examples: both objectives with t uniform, the KL also with t by importance, one seed. What a preset or a default sets
is left to it, but for the schedule: the preset has had another since.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[3])  # the checkout, so that it runs without being installed

import pandas as pd

from backends import installed_backends
from studies.cell.stages import run_cell
from studies.plan.command import to_json
from studies.plan.grid import grid
from studies.plan.machine import cell_environment
from studies.plan.settings import parse_settings
from studies.store import files
from studies.store.folder import RunFolder

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
NUMBERS, NAMES = HERE / "golden.csv", HERE / "golden.json"
SETTINGS = (
    "--preset", "smoke", "--schedules", "linear", "--seeds", "1", "--num-steps", "20", "--train-steps", "30",
    "--test-examples", "30", "--bound-evaluations", "20", "--samples", "30", "--sample-steps", "5",
    "--full-samples", "0", "--timesteps", "uniform", "importance", "--device", "cpu",
)  # fmt: skip
CELLS = (("epsilon_mse", "uniform"), ("posterior_kl", "uniform"), ("posterior_kl", "importance"))
CURVE_STEPS = (1, 2, 5, 10, 15, 20, 25, 30)
BY_T = ("bound_at_t", "epsilon_mse_at_t")
PLACE = ["objective", "timesteps", "metric", "part", "sampler", "step", "t", "t_last", "unit"]
"""What a number is of; `part` is "value" or "standard_error"."""


def run(backend: str, folder: Path) -> None:
    """The golden run of one framework, in this process."""
    settings = parse_settings([*SETTINGS, "--backends", backend, "--out", str(folder)], description="")
    cells = [cell for cell in grid(settings) if (cell.objective, cell.timesteps) in CELLS]
    files.open_run(folder, to_json(settings), "compare_objectives")
    for cell in cells:
        run_cell(folder, cell, settings, lambda *_, **__: None)
    files.gather_results(folder, [cell.id for cell in cells])


def results(backend: str, folder: Path) -> pd.DataFrame:
    """The results of the golden run in a process of its own, with the environment of a study's cells."""
    command = [sys.executable, __file__, "--run", backend, "--out", str(folder)]
    environment = {**cell_environment(threads=1), "KERAS_BACKEND": "tensorflow"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return pd.read_csv(RunFolder(folder).results)


def numbers(frame: pd.DataFrame) -> pd.Series:
    """The numbers that are kept, by PLACE: all but seconds, most of the curve, and most of what is by t."""
    chosen = frame["t"].isna() | frame["metric"].isin(BY_T)
    chosen &= frame["step"].isna() | frame["step"].isin(CURVE_STEPS)
    rows = frame[chosen & (frame["unit"] != "s")]
    parts = [rows.assign(part=part, number=rows[part]) for part in ("value", "standard_error")]
    table = pd.concat(parts).dropna(subset="number")
    places = table[PLACE].astype("string").fillna("")
    places[["step", "t", "t_last"]] = places[["step", "t", "t_last"]].replace(r"\.0$", "", regex=True)
    return table["number"].set_axis(pd.MultiIndex.from_frame(places))


def names(frame: pd.DataFrame, backend: str, folder: Path) -> dict[str, object]:
    """What is not a float: columns, cells' folders and files, and how many rows each metric has, in which unit."""
    cells = list((folder / "cells").iterdir())
    counts = frame.groupby(["metric", "unit"]).size()
    return {
        "columns": list(frame.columns),
        "cells": sorted(path.name.replace(backend, "BACKEND") for path in cells),
        "files": sorted({path.name for cell in cells for path in cell.iterdir()}),
        "rows": {f"{metric} [{unit}]": int(count) for (metric, unit), count in counts.items()},
    }


def kept_numbers() -> pd.DataFrame:
    """golden.csv: a column of numbers a framework, by PLACE."""
    table = pd.read_csv(NUMBERS, dtype=dict.fromkeys(PLACE, "string"), keep_default_na=False)
    return table.set_index(PLACE).apply(pd.to_numeric)


def make() -> None:
    columns = dict(kept_numbers()) if NUMBERS.is_file() else {}
    for backend in installed_backends():
        with tempfile.TemporaryDirectory() as folder:
            frame = results(backend, Path(folder))
            NAMES.write_text(json.dumps(names(frame, backend, Path(folder)), indent=2) + "\n")
        columns[backend] = numbers(frame)
    table = pd.DataFrame({backend: columns[backend] for backend in sorted(columns)}, index=columns[backend].index)
    table.to_csv(NUMBERS, float_format="%.9g")
    print(f"{len(table)} numbers of {', '.join(table)} in {NUMBERS.relative_to(ROOT)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", metavar="BACKEND", help="only run it, in this process")
    parser.add_argument("--out", type=Path, help="the run's folder, for --run")
    asked = parser.parse_args()
    if asked.run:
        run(asked.run, asked.out)
    else:
        make()
