"""Made-up runs in the shape a study writes: known differences between recipes, no network trained."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = [
    *("dataset", "schedule", "prediction", "variance", "objective", "backend", "seed"),
    *("step", "t", "t_last", "sampler", "metric", "value", "standard_error", "unit"),
]
FACTORS = COLUMNS[:7]
EDGES = (1, 2, 3, 5, 9, 17, 33, 65, 129, 257, 513, 769, 1001)
BOUND = {"epsilon_mse": 3.11, "posterior_kl": 3.08, "hybrid": 3.05, "target_mse": 3.13}
FRECHET = {"epsilon_mse": 1.9, "posterior_kl": 3.2, "hybrid": 2.1, "target_mse": 2.6}
SIGNALS = {"digits": (8, 8, 1), "swiss_roll": (2,), "series": (24, 1), "colour": (12, 12, 3)}
TRUTH_AT_T = ((1, 1), (2, 2), (3, 9), (10, 99), (100, 1000))
TRUTH = {
    "bound_data_se": 0.02, "bound_step_se": 0.001, "bound_noise_se": 0.004, "rate": 3.0, "distortion": 0.1,
    "rmse": 0.07, "bound_floor": 0.2, "bound_above_floor": 2.9, "flow_decoder": 2.7, "flow_bound": 3.2,
    "flow_minus_bound": -0.5, "flow_examples": 8, "flow_decoder_tolerance": 0.014,
    "flow_decoder_solver_change": 0.001, "flow_decoder_unresolved": 0,
}  # fmt: skip


def make_run(
    folder: Path,
    *,
    dataset: str = "digits",
    objectives: Sequence[str] = ("epsilon_mse", "posterior_kl"),
    backends: Sequence[str] = ("torch", "keras"),
    predictions: Sequence[str] = ("epsilon",),
    schedules: Sequence[str] = ("linear",),
    seeds: int = 3,
    failed: Sequence[str] = (),
    samplers: Sequence[str] = ("ancestral-100", "ancestral-1000"),
    spread: float = 0.004,
    bounds: dict[str, float] | None = None,
    samples: bool = True,
    shape: tuple[int, ...] | None = None,
    diverged: Sequence[str] = (),
    offsets: dict[str, float] | None = None,
    curves: bool = True,
) -> Path:
    """Writes a run's folder. `failed` and `diverged` name cells; `bounds` overrides the mean bound of an objective.

    `shape`: that of an example, for a dataset of any name.
    `offsets`: what is added to the bound of "SCHEDULE-PREDICTION-OBJECTIVE". Without `curves` there are no rows by step
    or t, which makes large runs small.
    """
    (folder / "cells").mkdir(parents=True)
    shape = SIGNALS[dataset] if shape is None else shape
    settings = {
        "study": "compare_objectives",
        "dataset": dataset,
        "objectives": list(objectives),
        "seeds": seeds,
        "num_steps": 1000,
        "first_variance": "next",
        "clip_x_0": None,
        "train_steps": 3000,
        "learning_rate": 2e-3,
        "bound_evaluations": 50,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    environment = {
        "command": "python studies/compare_objectives.py --seeds 3",
        "started": "2025-05-01T12:00:00+00:00",
        "python": "3.11.9",
        "platform": "Linux",
        "cpu": "a processor",
        "cores": 2,
        "packages": {"numpy": "2.1.0", "torch": "2.8.0", "keras": "3.11.0"},
        "commit": "0123abc",
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    train, test = _signals(shape, 256, 1), _signals(shape, 200, 2)
    np.savez(folder / "reference.npz", train=train, test=test)
    tables = []
    grid = itertools.product(range(seeds), schedules, predictions, objectives, backends)
    for seed, schedule, prediction, objective, backend in grid:
        cell = dict(zip(FACTORS, (dataset, schedule, prediction, "beta_tilde", objective, backend, seed), strict=True))
        name = "-".join(str(value) for value in cell.values())
        path = folder / "cells" / name
        path.mkdir()
        (path / "cell.json").write_text(json.dumps({"factors": cell, "description": {"device": "cpu"}}))
        if name in failed:
            (path / "failed.txt").write_text("the loss became NaN at step 214\nTraceback (most recent call last):\n")
            continue
        offset = (offsets or {}).get(f"{schedule}-{prediction}-{objective}", 0.0)
        if offsets is not None:  # cells of recipes with the same objective are made of the same draws otherwise
            offset += np.random.default_rng(list(name.encode())).normal(scale=spread)
        rows = _rows(cell, (bounds or BOUND)[objective] + offset, spread, shape, samplers)
        if name in diverged:
            kept = [row for row in rows if row["metric"] == "parameters"]
            rows = [*kept, {**cell, "metric": "diverged", "value": 214.0, "unit": "step"}]
        if not curves:
            rows = [row for row in rows if not ({"step", "t"} & row.keys())]
        table = pd.DataFrame(rows, columns=COLUMNS)
        table.to_csv(path / "rows.csv", index=False)
        tables.append(table)
        if name in diverged:
            continue
        np.savez(path / "weights_sketch.npz", **_sketches(cell))
        if samples:
            np.savez(path / "samples.npz", **_samples(train, shape, objective, seed, samplers))
    if tables:
        pd.concat(tables).to_csv(folder / "results.csv", index=False)
    return folder


def make_many(folder: Path, recipes: int = 16, **options: Any) -> Path:
    """A run of 16 or of 100 recipes: bounds 0.01 apart, one recipe with a diverged cell, and one far behind."""
    schedules, predictions = ("linear", "cosine", "a", "b", "c"), ("epsilon", "x_0", "v", "d", "e")
    side = {16: 2, 100: 5}[recipes]
    objectives = tuple(BOUND)
    names = ["-".join(recipe) for recipe in itertools.product(schedules[:side], predictions[:side], objectives)]
    offsets = {name: 0.01 * place for place, name in enumerate(names)} | {names[-1]: 2.7e7}
    diverged = [f"digits-linear-x_0-beta_tilde-hybrid-torch-{seed}" for seed in (0, 1)]
    return make_run(
        folder, schedules=schedules[:side], predictions=predictions[:side], objectives=objectives, backends=["torch"],
        offsets=offsets, diverged=diverged, **options,
    )  # fmt: skip


def make_sampler_run(folder: Path, *, steps: Sequence[int] = (10, 20, 50, 100, 1000), seeds: int = 3) -> Path:
    """Writes the folder of a study of samplers: two objectives in two frameworks; one cell failed."""
    settings = {"study": "compare_samplers", "run": "runs/objectives", "samples": 256, "clip_x_0": None,
                "dpm_solver_up_to": 100, "steps": list(steps)}  # fmt: skip
    excess = {
        "ancestral": (0.3, 0.2),
        "ddim": (0.1, 0.25),
        "dpm_solver": (0.02, 0.24),
        "dpm_solver-logsnr": (0.01, 0.24),
    }
    tables = []
    for seed, objective, backend in itertools.product(
        range(seeds), ("epsilon_mse", "posterior_kl"), ("torch", "keras")
    ):
        factors = ("digits", "linear", "epsilon", "beta_tilde", objective, backend, seed)
        cell = dict(zip(FACTORS, factors, strict=True))
        path = folder / "cells" / "-".join(map(str, factors))
        path.mkdir(parents=True)
        (path / "cell.json").write_text(json.dumps({"factors": cell, "description": {"device": "cpu"}}))
        if (objective, backend, seed) == ("posterior_kl", "keras", 1):
            (path / "failed.txt").write_text("ValueError: not a checkpoint\n")
            continue
        own = np.random.default_rng([seed, len(objective)])
        rows: list[dict] = []
        for n, (family, (slow, rest)) in itertools.product(steps, excess.items()):
            if n > 100 and family.startswith("dpm"):
                continue
            sampler, _, spacing = family.partition("-")
            name = f"{sampler}-{n}" + (f"-{spacing}" if spacing else "")
            frechet = 0.8 + (rest + slow * 100 / n) * (1 + (objective == "posterior_kl")) + own.normal(scale=0.01)
            scores = {"frechet": (frechet, 0.8), "sliced_w2": (0.05 + frechet / 20, 0.06), "precision": (0.9, 0.95)}
            for metric, (value, floor) in scores.items():
                rows.append({**cell, "metric": metric, "value": value, "unit": "1", "sampler": name})
                rows.append({**cell, "metric": f"{metric}_floor", "value": floor, "unit": "1", "sampler": name})
        table = pd.DataFrame(rows, columns=COLUMNS)
        table.to_csv(path / "rows.csv", index=False)
        tables.append(table)
    (folder / "settings.json").write_text(json.dumps(settings))
    command = "python studies/compare_samplers.py --run runs/objectives"
    (folder / "environment.json").write_text(json.dumps({"command": command, "packages": {"numpy": "2.1.0"}}))
    pd.concat(tables).to_csv(folder / "results.csv", index=False)
    return folder


def with_truth(folder: Path, known: bool = False) -> Path:
    """Adds to a run what `studies.cell.likelihood` says beside the bound; `known` data have an entropy."""
    rows = pd.read_csv(folder / "results.csv")
    keys = [name for name in rows.columns if name not in ("step", "t", "t_last", "sampler", "metric", "value", "unit")]
    keys.remove("standard_error")
    added = []
    for key, _ in rows.groupby(keys, dropna=False):
        cell = dict(zip(keys, key, strict=True))
        size = 1 + 0.1 * cell["seed"] + 0.5 * (cell["objective"] == "posterior_kl")
        for metric, value in {**TRUTH, **({"entropy": 0.8, "bound_above_entropy": 2.0} if known else {})}.items():
            added.append({**cell, "metric": metric, "value": value, "standard_error": 0.03, "unit": "bits/dim"})
        for t, t_last in TRUTH_AT_T:
            for metric, value in (
                ("epsilon_mse_floor_at_t", 0.0 if t < 3 else 0.01),
                ("epsilon_mse_above_floor_at_t", size / t),
                ("bound_above_floor_at_t", size / t**2 if t > 1 else 0.0),
            ):
                where = {"t": t, "t_last": t_last, "standard_error": 0.001}
                added.append({**cell, "metric": metric, "value": value, "unit": "per dim", **where})
    pd.concat([rows, pd.DataFrame(added)]).to_csv(folder / "results.csv", index=False)
    return folder


def _rows(cell: dict, mean_bound: float, spread: float, shape: tuple[int, ...], samplers: Sequence[str]) -> list[dict]:
    # Cells of one seed share their draws, so most of the seed's effect is common to them and drops out of differences.
    common = np.random.default_rng(cell["seed"]).normal(scale=10 * spread)
    own = np.random.default_rng([cell["seed"], *cell["objective"].encode(), *cell["backend"].encode()])
    bound = mean_bound + common + own.normal(scale=spread) + 0.02 * (cell["prediction"] == "x_0")
    bound += 0.05 * (cell["schedule"] == "cosine")
    kl = cell["objective"] != "epsilon_mse"
    rows: list[dict] = []

    def add(metric: str, value: float, unit: str, **more: object) -> None:
        rows.append({**cell, "metric": metric, "value": value, "unit": unit, **more})

    for step in range(50, 3001, 50):
        decay = 0.6 * math.exp(-step / 300)
        add("train_epsilon_mse", 0.15 + 0.01 * kl + decay + own.normal(scale=0.006), "per dim", step=step)
        value = bound + 0.2 + 20 * decay + own.normal(scale=0.12)
        add("train_posterior_kl", value, "bits/dim", step=step)
        add("train_posterior_kl", value * math.log(2), "nats/dim", step=step)
    prior, decoder = 1e-4, 1.35 - 0.05 * kl
    weights = np.array([0.0, *(1 / np.sqrt(np.arange(1, len(EDGES) - 1)))])
    weights = weights / weights.sum() * (bound - prior - decoder)
    weights[0] = decoder
    for first, after, total in zip(EDGES[:-1], EDGES[1:], weights, strict=True):
        span = {"t": first, "t_last": after - 1}
        value = total / (after - first)
        add("bound_at_t", value, "bits/dim", standard_error=0.02 * value, **span)
        mse = 0.9 / (1 + first / 8) + 0.01 * kl + 0.002
        add("epsilon_mse_at_t", mse * (1 + own.normal(scale=0.01)), "per dim", standard_error=0.001, **span)
    add("bound", bound, "bits/dim", standard_error=0.008)
    add("bound_total_se", 0.02, "bits/dim")
    add("bound_prior", prior, "bits/dim")
    add("bound_diffusion", bound - prior - decoder, "bits/dim")
    add("bound_decoder", decoder, "bits/dim")
    add("epsilon_mse", 0.152 + 0.008 * kl + common / 50 + own.normal(scale=0.0006), "per dim", standard_error=0.001)
    add("bound_evaluations", 50, "evaluations")
    for sampler in samplers:
        steps = int(sampler.rpartition("-")[2])
        gain = 1 + 20 / steps
        values = {
            "frechet": (FRECHET[cell["objective"]] * gain + own.normal(scale=0.1), 0.9),
            "sliced_w2": (0.06 * gain + own.normal(scale=0.002), 0.03),
            "precision": (0.85 / gain + own.normal(scale=0.01), 0.93),
            "c2st_p": (0.02, 0.6),
        }
        for metric, (value, floor) in values.items():
            add(metric, value, "1", sampler=sampler)
            add(f"{metric}_floor", floor, "1", sampler=sampler)
    slow = 1.0 if cell["backend"] == "torch" else 1.6
    add("train_seconds", 110 * slow + own.normal(), "s")
    add("bound_seconds", 11 * slow, "s")
    add("sample_seconds", 14 * slow, "s")
    add("startup_seconds", 4 * slow, "s")
    add("parameters", 110000, "1")
    return rows


def _sketches(cell: dict) -> dict[str, np.ndarray]:
    """Weights that part from those of the other objective at once, and from those of the other framework slowly."""
    steps = np.unique(np.rint(np.geomspace(1, 3000, 8)).astype(int))
    start, objective, backend = (
        np.random.default_rng(list(words.encode())).normal(size=64)
        for words in (str(cell["seed"]), f"{cell['seed']} {cell['objective']}", f"{cell['seed']} {cell['backend']}")
    )
    share = steps[:, None] / 3000
    return {"steps": steps, "sketches": start + 0.3 * np.sqrt(share) * objective + 1e-3 * share**2 * backend,
            "parameters": np.array(110000)}  # fmt: skip


def _signals(shape: tuple[int, ...], n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if len(shape) == 1 and shape[0] != 2:  # a count, a skewed column, then two in common with their neighbours
        columns = rng.normal(size=(n, shape[0])) + rng.normal(size=(n, 1))
        columns[:, 0] = rng.poisson(2, size=n)
        columns[:, 1:2] = np.exp(columns[:, 1:2])
        return columns / 3
    if len(shape) == 1:
        angle = 1.5 * np.pi * (1 + 2 * rng.random(n))
        return np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1) / 15
    if len(shape) == 2:
        grid = np.linspace(0, 2 * np.pi, shape[0])
        return np.sin(grid + rng.normal(size=(n, 1)))[..., None] * rng.uniform(0.4, 1, size=(n, 1, shape[1]))
    height, width, channels = shape
    y, x = np.mgrid[:height, :width]
    centre = rng.uniform(0.3, 0.7, size=(n, 2, 1, 1)) * np.array([height, width])[:, None, None]
    radius = np.hypot(y - centre[:, 0], x - centre[:, 1])
    ring = np.exp(-((radius - rng.uniform(1.5, 3, size=(n, 1, 1))) ** 2))
    return (2 * ring - 1)[..., None] * rng.uniform(0.6, 1, size=(n, 1, 1, channels))


def _samples(train: np.ndarray, shape: tuple[int, ...], objective: str, seed: int, samplers: Sequence[str]) -> dict:
    arrays = {}
    for sampler in samplers:
        rng = np.random.default_rng([seed, len(sampler)])
        noise = rng.normal(size=(40, *shape)) * (0.25 if objective == "posterior_kl" else 0.1)
        arrays[sampler] = np.clip(train[rng.integers(256, size=40)] + noise, -1.2, 1.2)
        steps = np.array([1000, 800, 600, 400, 200, 100, 10, 1])
        start = rng.normal(size=(4, *shape))
        share = (steps / 1000)[:, None]
        share = share.reshape(-1, *[1] * (len(shape) + 1))
        arrays[f"{sampler}/trajectory"] = share * start + (1 - share) * arrays[sampler][:4]
        arrays[f"{sampler}/trajectory_steps"] = steps
    return arrays
