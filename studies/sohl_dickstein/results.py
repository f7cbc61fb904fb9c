"""What the study of the 2015 recipe adds to a run: the bound in bits a point with its gain, and conditional samples.

`gain.csv` and `conditional.npz` in the run's folder; `figures.gain` and `figures.conditional` draw them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.conditioning import Observation, multiplied
from core.gaussian import discretized_log_likelihood, normal_log_density
from core.samplers import SamplerStep
from studies.cell.draws import generator, sampler_noise, starting_noise
from studies.cell.model import TrainedModel, load_model
from studies.datasets import Dataset
from studies.datasets.swiss_roll import NOISE, THIN_NOISE, log_density
from studies.plan.settings import read_settings
from studies.reporting.figures.conditional import FILE as CONDITIONAL
from studies.reporting.figures.gain import FILE as GAIN
from studies.reporting.names import name_of
from studies.reporting.numbers import plain, plus_minus
from studies.reporting.terminal import aligned, terminal_width
from studies.statistics.intervals import mean_interval
from studies.store.cells import FACTOR_NAMES, Cell
from studies.store.data import dataset_of
from studies.store.files import write_arrays, write_text
from studies.store.reading import Run, read_run

PAPER_BITS, PAPER_GAIN = 2.35, 6.45
"""Sohl-Dickstein et al. (2015), Table 1, swiss roll: K and K - L_null."""
ROLLS = {"swiss_roll": NOISE, "swiss_roll_thin": THIN_NOISE}
"""The paper's data here: what is known of it, by the noise across the roll."""
NOISE_STD, GIVEN = 0.25, (-0.9, 0.0, 0.9)
"""Of the demonstration: the noise taken off, and the first coordinates that points are completed from."""
DENOISED, COMPLETED = 400, 150


def add_to_run(out: Path) -> str:
    """Writes the run's gain.csv and, for points, conditional.npz, which its report draws.

    Returns the table for the terminal.
    """
    run, settings = read_run(out), read_settings(out)
    dataset = dataset_of(out, settings.dataset, settings.test_examples, settings.scale)
    table = gains(run, dataset)
    write_text(out / GAIN, table.to_csv(index=False))
    model = _shown_model(run, out, dataset)
    if model is not None:
        write_arrays(out / CONDITIONAL, conditional_samples(model, dataset))
    lines = [["", "framework", "seeds", "bound K, bits", "K - Gaussian's"]]
    for gain_row in table.to_dict("records"):
        seeds = str(int(gain_row["seeds"])) if gain_row["seeds"] else ""
        lines.append([gain_row["name"], gain_row["framework"], seeds, gain_row["bound_text"], gain_row["gain_text"]])
    title = f"Lower bound on the log likelihood of a test point, in bits of {table['bits_of'].iloc[0]}"
    title += " (higher is better):"
    return "\n".join([title, "", *aligned(lines, terminal_width()), ""])


def gains(run: Run, dataset: Dataset) -> pd.DataFrame:
    """K and its gain by recipe and framework, means over seeds with 95 % intervals, then what they are held against.

    Bits a point, not per dim: K is minus the bound. The Gaussian is isotropic, fitted to the training set. The paper's
    numbers stand beside its own data alone.
    """
    null = float(isotropic_bits(dataset).mean()) - dataset.dims * dataset.scale_bits  # in the file's units, as bounds
    rows = run.rows[run.rows["metric"] == "bound"]
    table: list[dict[str, Any]] = []
    for (recipe, backend), group in rows.groupby(["recipe", "backend"], sort=False):
        bits = -dataset.dims * group["value"].to_numpy(np.float64)
        bound, gain = mean_interval(bits), mean_interval(bits - null)
        table.append(
            {
                "name": name_of(recipe), "framework": name_of(backend), "seeds": len(bits), "recipe": recipe,
                "backend": backend, "bound_bits": bound.estimate, "low": bound.low, "high": bound.high,
                "gain_bits": gain.estimate, "bound_text": plus_minus(bound), "gain_text": plus_minus(gain),
            }
        )  # fmt: skip
    held_against = [("isotropic Gaussian", null, 0.0)]
    if dataset.name in ROLLS:
        truth = float(log_density(dataset.test, ROLLS[dataset.name]).mean() / np.log(2))
        held_against.append(("true density", truth, truth - null))
        held_against.append(("the paper's, on its roll", PAPER_BITS, PAPER_GAIN))
    for name, known, more in held_against:
        texts = {"bound_text": plain(known, 3), "gain_text": plain(more, 3)}
        table.append({"name": name, "framework": "", "seeds": 0, "bound_bits": known, "gain_bits": more, **texts})
    return pd.DataFrame(table).assign(bits_of="density" if dataset.levels is None else "probability")


def isotropic_bits(dataset: Dataset) -> NDArray[np.float64]:
    """log2 of what N(mean, variance I), both of the training set, gives to each test point; (M,).

    Its density, or on data with levels its mass on the bins around them, as the bound is there on a probability.
    """
    train, test = (part.reshape(len(part), -1) for part in (dataset.train, dataset.test))
    mean = train.mean(axis=0)
    log_variance = np.log(np.mean((train - mean) ** 2))
    if dataset.levels is None:
        nats = normal_log_density(test, mean, log_variance)
    else:
        nats = discretized_log_likelihood(test, mean, log_variance, dataset.levels)
    return np.sum(nats, axis=1) / np.log(2)


def conditional_samples(model: TrainedModel, dataset: Dataset) -> dict[str, NDArray[np.float64]]:
    """Test points with noise, denoised, and points completed from their first coordinate, each beside exact draws.

    The exact draws are training points, drawn by how likely they make what was observed.
    """
    truth = dataset.test[:DENOISED]
    rng = generator(model.seed, "conditional")
    observed = truth + NOISE_STD * rng.standard_normal(truth.shape)
    mean, variance = dataset.train.mean(axis=0), dataset.train.var(axis=0)
    denoise = multiplied(Observation(observed, True, NOISE_STD**2, mean, variance))
    given = np.repeat(GIVEN, COMPLETED)
    partly = np.stack([given, np.zeros_like(given)], axis=1)
    complete = multiplied(Observation(partly, np.array([True, False]), 0.0, mean, variance))
    width = 0.02  # of the strip of training points that an exact draw with a given coordinate is taken from
    return {
        "truth": truth,
        "observed": observed,
        "denoised": _sampled(model, denoise, len(observed), "denoised"),
        "denoised_exactly": _resampled(dataset.train, observed, NOISE_STD, rng),
        "completed": _sampled(model, complete, len(partly), "completed"),
        "completed_exactly": _resampled(dataset.train[:, :1], partly[:, :1], width, rng, dataset.train),
    }


def _sampled(model: TrainedModel, step: SamplerStep, count: int, stream: str) -> NDArray[np.float64]:
    noise = partial(sampler_noise, model.seed, stream, count, model.shape)
    x_T = starting_noise(model.seed, stream, count, model.shape)
    return model.placed.sample(step, x_T, noise)[0]


def _resampled(
    points: NDArray[np.float64],
    observed: NDArray[np.float64],
    std: float,
    rng: np.random.Generator,
    whole: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """For each observation one of `whole` (default: of `points`), drawn by N(observed; point, std^2)."""
    squared = np.sum((observed[:, None] - points) ** 2, axis=2)
    # The largest of log odds plus Gumbel noise is a draw by those odds.
    chosen = np.argmax(rng.gumbel(size=squared.shape) - squared / (2 * std**2), axis=1)
    return (points if whole is None else whole)[chosen]


def _shown_model(run: Run, out: Path, dataset: Dataset) -> TrainedModel | None:
    """The network of the last recipe, at the first seed, of the first framework; None for data that is no points."""
    if dataset.shape != (2,):
        return None
    bounds = run.rows[run.rows["metric"] == "bound"].sort_values("seed", kind="stable")
    last = bounds[bounds["recipe"] == run.rows["recipe"].iloc[-1]].iloc[0]
    cell = Cell(**{name: last[name] for name in FACTOR_NAMES} | {"seed": int(last["seed"])})
    return load_model(out, cell, read_settings(out), dataset)
