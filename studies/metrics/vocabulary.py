"""Every metric that a row of results.csv may hold: its name, title, unit, range, and which direction is better.

Writers and readers of a run share it. Metrics of samples are those of the registry, each with its floor; the others are
listed here. A unit that depends on the data is left empty here: the row has it.
"""

# ruff: noqa: RUF001
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from studies.metrics.registry import AT_LEAST_0, FROM_0_TO_1, METRICS

Direction = Literal["lower", "higher"]
BITS, PER_DIM, SECONDS = "bits/dim", "per dim", "s"
PER_EXAMPLE = "evaluations per example"
AT_LEAST_1 = (1.0, math.inf)


@dataclass(frozen=True)
class Quantity:
    """How a metric is spoken of: its title, its unit, and which direction is better (None: neither, or not known).

    `range`: the least and the largest value that a row can have, both included; None where any is possible, as for a
    log density, a difference, or an estimate that its noise can carry below 0.
    """

    name: str
    title: str
    unit: str
    direction: Direction | None = None
    is_p_value: bool = False
    range: tuple[float, float] | None = None


def _at_t(*measured: Quantity) -> tuple[Quantity, ...]:
    """The given quantities, and each of them once more as measured at single steps t."""
    return (*measured, *(Quantity(f"{about.name}_at_t", f"{about.title} at t", about.unit) for about in measured))


def _least_0(name: str, title: str, unit: str, direction: Direction | None = None) -> Quantity:
    """A size, a count or a time, which is not below 0."""
    return Quantity(name, title, unit, direction, range=AT_LEAST_0)


def _likelihood(name: str, title: str) -> tuple[Quantity, ...]:
    """A likelihood by the probability flow, and what says how exact it is."""
    return (
        Quantity(name, title, BITS),
        _least_0(f"{name}_total_se", f"{title}, standard error", BITS),
        _least_0(f"{name}_probe_se", f"{title}, standard error of the probes", BITS),
        _least_0(f"{name}_solver_change", f"{title}, change at the solver’s last halving", BITS),
        _least_0(f"{name}_tolerance", f"{title}, tolerance of the solver", BITS),
        _least_0(f"{name}_unresolved", f"{title}, examples beyond the tolerance", "examples"),
        Quantity(f"{name}_step", f"{title}, step at which the flow ends", "step", range=AT_LEAST_1),
        _least_0(f"{name}_evaluations", f"{title}, network evaluations", PER_EXAMPLE),
    )


def _of_samples() -> tuple[Quantity, ...]:
    """The metrics of the registry, and the floor of each."""
    scores = tuple(
        Quantity(
            metric.name,
            metric.title,
            metric.unit,
            None if metric.best_inside else metric.direction,
            is_p_value=metric.is_p_value,
            range=metric.range,
        )
        for metric in METRICS.values()
    )
    floors = tuple(
        Quantity(f"{score.name}_floor", f"{score.title}, floor", score.unit, range=score.range) for score in scores
    )
    return scores + floors


_ALL = (
    Quantity("bound", "test bound", BITS, "lower"),
    Quantity("bound_at_t", "bound of a single step", BITS),
    _least_0("bound_total_se", "SE in all", BITS),
    _least_0("bound_data_se", "SE from data", BITS),
    _least_0("bound_step_se", "SE from steps t", BITS),
    _least_0("bound_noise_se", "SE from noise", BITS),
    Quantity("bound_decoder", "decoder, t = 1", BITS),
    Quantity("bound_diffusion", "diffusion, t > 1", BITS),
    _least_0("bound_prior", "prior, t = T", BITS),
    _least_0("bound_evaluations", "network evaluations of the bound", PER_EXAMPLE),
    Quantity("entropy", "entropy of the data", BITS),
    Quantity("bound_above_entropy", "above the entropy", BITS),
    *_at_t(Quantity("bound_floor", "floor of the bound", BITS), Quantity("bound_above_floor", "above the floor", BITS)),
    _least_0("epsilon_mse", "test epsilon MSE", PER_DIM, "lower"),
    Quantity("epsilon_mse_at_t", "test epsilon MSE at t", PER_DIM),
    *_at_t(
        Quantity("epsilon_mse_floor", "floor of the epsilon MSE", PER_DIM),
        Quantity("epsilon_mse_above_floor", "epsilon MSE above its floor", PER_DIM),
    ),
    *_at_t(Quantity("rate", "rate", BITS)),
    Quantity("distortion", "distortion, L₀", BITS),
    _least_0("distortion_at_t", "distortion at t", ""),
    _least_0("rmse", "RMSE of x₀ at t = 1", ""),
    *_likelihood("flow_decoder", "flow likelihood"),
    *_likelihood("flow_uniform", "flow likelihood, dequantised"),
    *_likelihood("flow_density", "flow density"),
    Quantity("flow_bound", "bound, same examples", BITS),
    Quantity("flow_minus_bound", "flow − bound", BITS),
    _least_0("flow_minus_bound_total_se", "flow − bound, standard error", BITS),
    Quantity("flow_examples", "examples of the flow", "examples", range=AT_LEAST_1),
    _least_0("train_epsilon_mse", "epsilon MSE", PER_DIM),
    Quantity("train_posterior_kl", "posterior KL", BITS),
    Quantity("parameters", "parameters", "weights", range=AT_LEAST_1),
    Quantity("diverged", "step at which the loss was not finite", "step", range=AT_LEAST_1),
    Quantity("trained_together", "cells trained in one program", "cells", range=AT_LEAST_1),
    _least_0("step_seconds", "a training step", SECONDS),
    _least_0("startup_seconds", "start-up", SECONDS),
    _least_0("train_seconds", "training time", SECONDS, "lower"),
    _least_0("train_processor_seconds", "training time on the processor", SECONDS, "lower"),
    _least_0("bound_seconds", "bound", SECONDS),
    _least_0("floors_seconds", "floors", SECONDS),
    _least_0("flow_seconds", "flow", SECONDS),
    _least_0("sample_seconds", "samples", SECONDS),
    Quantity("samples_not_finite", "sample values that are not finite", "values", range=AT_LEAST_1),
    Quantity("scored_samples", "samples scored", "examples", range=AT_LEAST_1),
    Quantity("scored_reference", "test examples they were scored against", "examples", range=AT_LEAST_1),
    *_of_samples(),
)

VOCABULARY: dict[str, Quantity] = {about.name: about for about in _ALL}

ESTIMATOR_VOCABULARY: dict[str, Quantity] = {
    about.name: about
    for about in (
        _least_0("evaluations", "network evaluations", PER_EXAMPLE, "lower"),
        _least_0("sweep_error", "standard error of a full sweep", BITS),
        Quantity("coverage", "95 % intervals that hold the truth", "of intervals", range=FROM_0_TO_1),
        _least_0("computed_over_scatter", "computed error over the scatter", "ratio"),
        _least_0("network_computed_over_scatter", "computed error over the scatter, with the network", "ratio"),
    )
}
"""The metrics of `compare_estimators`, which measures estimators and not models; its coverage is that of intervals."""


def outside_range(metric: str, value: float) -> bool:
    """Whether a row of the metric cannot have this value; NaN, of a measurement that failed, lies in any range."""
    bounds = VOCABULARY[metric].range
    return bounds is not None and (value < bounds[0] or value > bounds[1])


def title_of(metric: str) -> str:
    """The title as it stands at the head of a column."""
    title = VOCABULARY[metric].title
    return title[0].upper() + title[1:]
