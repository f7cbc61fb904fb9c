"""Made-up studies of speed and of estimators in the shape that they are written: known numbers, nothing measured."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from studies.estimators.settings import EstimatorSettings
from studies.plan.command import to_json
from studies.run.environment import record_environment
from studies.store import files
from studies.store.cells import Cell
from studies.throughput.cases import Case, Facts, Time
from studies.throughput.contestant import Contestant
from studies.throughput.settings import ThroughputSettings

TORCH, DIFFUSERS, CEILINGS = Contestant("torch"), Contestant("diffusers"), Contestant("ceilings")


def case(times: dict[tuple[Contestant, str], list[float]], flops: dict[str, float], first: float = 1.0) -> Case:
    """A race with these seconds a unit by round; everyone's blocks have `flops`."""
    facts = {contestant: Facts(100, flops, first_seconds=dict.fromkeys(flops, first)) for contestant, _ in times}
    rows = [
        Time(contestant, block, number, 3 * seconds, 3)
        for (contestant, block), values in times.items()
        for number, seconds in enumerate(values)
    ]
    return Case("digits", 128, 256, facts, rows)


def make_throughput_run(folder: Path) -> Path:
    """The folder of a study of speed with one race: a round takes torch about a second, and others known multiples."""
    rounds = [1.0, 1.1, 0.9, 1.05, 1.2, 1.0]
    raced = case(
        {
            (TORCH, "train"): rounds,
            (TORCH, "network"): rounds,
            (TORCH, "bound"): rounds,
            (TORCH, "sample"): rounds,
            (TORCH.once_compiled(), "train"): [0.5] * 6,
            (DIFFUSERS, "train"): [2 * one for one in rounds],
            (Contestant("torch", "bfloat16"), "train"): [0.8 * one for one in rounds],
            (Contestant("diffusers", "bfloat16"), "train"): rounds,
            (Contestant("ceilings", "bfloat16"), "convolution"): [0.4 * one for one in rounds],
            (CEILINGS, "convolution"): rounds,
        },
        dict.fromkeys(("train", "network", "bound", "sample", "convolution"), 1e9),
    )
    raced.facts[TORCH.once_compiled()].first_seconds["train"] = 31.0
    files.write_text(folder / "cases" / "digits.json", raced.to_json())
    settings = json.loads(to_json(ThroughputSettings(out=folder)))
    files.write_json(folder / "settings.json", {"study": "compare_throughput", **settings})
    record_environment(folder, "compare_throughput", [])
    grown = [("steps", n, 0.1 * n, 1e8) for n in (25, 50, 100)] + [("T", n, math.nan, 1e8) for n in (100, 1000)]
    columns = ["quantity", "n", "seconds", "bytes"]
    files.write_text(folder / "growth.csv", pd.DataFrame(grown, columns=columns).to_csv(index=False))
    return folder


def make_estimator_run(folder: Path) -> Path:
    """The folder of a study of four models that draw t in two ways and two precisions, with 8 and 20 examples.

    Model k in N examples: ours takes 7 + 1000 k + N evaluations, a sweep 150 more than k thousands and N, and so on.
    """
    costs = {"full_sweep": 150.0, "uniform": 90.0, "importance_with_history": 20.0, "ours": 7.0, "limit": 4.0}
    rows = []
    models = itertools.product(("uniform", "importance"), ("float32", "bfloat16"))
    for model, (timesteps, dtype) in enumerate(models):
        cell = asdict(Cell("digits", "linear", "epsilon", "beta_tilde", "hybrid", "torch", 0, timesteps, dtype))
        for size in (8, 20):
            measured = [
                files.row("evaluations", n + 1000 * model + size, "", estimator=name) for name, n in costs.items()
            ]
            measured.append(files.row("sweep_error", 0.01, "bits/dim", estimator="full_sweep"))
            measured.append(files.row("coverage", 0.95, "", standard_error=0.01, estimator="ours"))
            rows += [{**cell, **one, "examples": size} for one in measured]
    columns = [*files.COLUMNS, "examples", "estimator"]
    folder.mkdir()
    pd.DataFrame(rows, columns=columns).to_csv(folder / "results.csv", index=False)
    settings = EstimatorSettings(run=Path("runs/objectives"), out=folder, repeats=400)
    files.write_json(folder / "settings.json", {"study": "compare_estimators", **json.loads(to_json(settings))})
    record_environment(folder, "compare_estimators", ["--run", "runs/objectives"])
    return folder
