"""The one place of these tests that knows where a cell begins: small data, small settings, and a cell run on fakes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from studies.cell import stages
from studies.estimators.settings import EstimatorSettings, parse_estimator_settings
from studies.plan.settings import StudySettings, parse_settings
from studies.samplers.settings import SamplerSettings, parse_sampler_settings
from studies.store import files
from studies.store.cells import Cell
from studies.store.folder import RunFolder
from studies.throughput.settings import ThroughputSettings, parse_throughput_settings
from tests.studies.custody.fake_backend import FakeBackend, Reported

SMALL = StudySettings(
    num_steps=12,
    mlp_width=4,
    mlp_depth=1,
    widths=(8,),
    train_steps=6,
    warmup_steps=2,
    batch_size=5,
    learning_rate=1e-2,
    bound_evaluations=40,
    flow_examples=4,
    samples=6,
    sample_steps=4,
    full_samples=3,
    device="cpu",
    compile="off",
)
"""A whole cell in less than 0.2 s; its samples are too few to be scored."""


def write_points(path: Path, *, train: int = 24, test: int = 12, dims: int = 3, **also: Any) -> Path:
    """Continuous data of which no two numbers are equal: an example is known by any of its entries."""
    rng = np.random.default_rng(7)
    np.savez(path, train=rng.standard_normal((train, dims)), test=rng.standard_normal((test, dims)), **also)
    return path


def make_cell(dataset: Path | str, **factors: Any) -> Cell:
    defaults: dict[str, Any] = {
        "dataset": Path(dataset).stem,
        "schedule": "cosine",
        "prediction": "epsilon",
        "variance": "beta_tilde",
        "objective": "epsilon_mse",
        "backend": "fake_one",
        "seed": 0,
    }
    return Cell(**{**defaults, **factors})


def run_alone(out: Path, cell: Cell, fake: FakeBackend, dataset: Path | str, **changes: Any) -> pd.DataFrame:
    """The cell in this process, as one alone; returns its rows."""
    stages.run_cell(out, cell, small(dataset, changes), _reporter({cell.id: fake}, cell.id))
    return read_rows(out, cell)


def run_group(
    out: Path, cells: Sequence[Cell], fake: FakeBackend, dataset: Path | str, **changes: Any
) -> list[pd.DataFrame]:
    """The cells in this process, as one program; returns the rows of each."""
    stages.run_group(out, cells, small(dataset, changes), _reporter({cell.id: fake for cell in cells}, None))
    for cell in cells:
        assert files.failure(out, cell.id) is None, files.failure(out, cell.id)
    return [read_rows(out, cell) for cell in cells]


def small(dataset: Path | str, changes: dict[str, Any]) -> StudySettings:
    return dataclasses.replace(SMALL, dataset=str(dataset), **changes)


def _reporter(fakes: dict[str, FakeBackend], only: str | None) -> Any:
    def report(stage: str, *_: Any, cell: str | None = only, **__: Any) -> None:
        assert cell is not None
        fakes[cell].calls.append(Reported(stage, cell))

    return report


def read_rows(out: Path, cell: Cell) -> pd.DataFrame:
    return pd.read_csv(RunFolder(out).cell(cell.id).rows)


def folder_of(out: Path, cell: Cell) -> Path:
    return RunFolder(out).cell(cell.id).path


def checkpoint_of(out: Path, cell: Cell) -> Path:
    return RunFolder(out).cell(cell.id).checkpoint


def value_of(rows: pd.DataFrame, metric: str, **where: Any) -> float:
    """The value of the one row of a metric, at the given t, step or sampler."""
    chosen = rows[rows["metric"] == metric]
    for column, wanted in where.items():
        chosen = chosen[chosen[column] == wanted]
    assert len(chosen) == 1, f"{len(chosen)} rows of {metric} at {where}"
    return float(chosen["value"].iloc[0])


def values_of(rows: pd.DataFrame, metric: str) -> list[float]:
    return [float(value) for value in rows[rows["metric"] == metric]["value"]]


def flags_of(kind: Any) -> dict[str, str]:
    """The flag of every field of a script's settings, as one types it to change the default."""
    return {
        field.name: ("--no-" if field.default is True else "--") + field.name.replace("_", "-")
        for field in dataclasses.fields(kind)
    }


STUDY_FLAGS = flags_of(StudySettings)
SAMPLER_FLAGS, ESTIMATOR_FLAGS, THROUGHPUT_FLAGS = map(
    flags_of, (SamplerSettings, EstimatorSettings, ThroughputSettings)
)


def parsed(script: str, *words: str) -> dict[str, Any]:
    """What a script makes of its command line."""
    parse: dict[str, Any] = {
        "compare_objectives": parse_settings,
        "compare_samplers": parse_sampler_settings,
        "compare_estimators": parse_estimator_settings,
        "compare_throughput": parse_throughput_settings,
    }
    return dict(vars(parse[script](list(words), description="")))
