"""Every metric that a row of results.csv may hold: its name, title, unit, and which direction is better.

Writers and readers of a run share it. Metrics of samples are those of the registry, each with its floor; the others are
listed here. A unit that depends on the data is left empty here: the row has it.
"""

# ruff: noqa: RUF001
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from studies.metrics.registry import METRICS

Direction = Literal["lower", "higher"]
BITS, PER_DIM, SECONDS = "bits/dim", "per dim", "s"
BEST_INSIDE = ("memorisation", "density")
"""Their ideal lies inside the range, so neither direction is better throughout."""


@dataclass(frozen=True)
class Quantity:
    """How a metric is spoken of: its title, its unit, and which direction is better (None: neither, or not known)."""

    name: str
    title: str
    unit: str
    direction: Direction | None = None
    is_p_value: bool = False


def _at_t(*measured: Quantity) -> tuple[Quantity, ...]:
    """The given quantities, and each of them once more as measured at single steps t."""
    return (*measured, *(Quantity(f"{about.name}_at_t", f"{about.title} at t", about.unit) for about in measured))


def _likelihood(name: str, title: str) -> tuple[Quantity, ...]:
    """A likelihood by the probability flow, and what says how exact it is."""
    return (
        Quantity(name, title, BITS),
        Quantity(f"{name}_total_se", f"{title}, standard error", BITS),
        Quantity(f"{name}_probe_se", f"{title}, standard error of the probes", BITS),
        Quantity(f"{name}_solver_change", f"{title}, change at the solver’s last halving", BITS),
        Quantity(f"{name}_tolerance", f"{title}, tolerance of the solver", BITS),
        Quantity(f"{name}_unresolved", f"{title}, examples beyond the tolerance", "examples"),
        Quantity(f"{name}_step", f"{title}, step at which the flow ends", "step"),
        Quantity(f"{name}_evaluations", f"{title}, network evaluations", "evaluations per example"),
    )


def _of_samples() -> tuple[Quantity, ...]:
    """The metrics of the registry, and the floor of each."""
    scores = tuple(
        Quantity(
            metric.name,
            metric.title,
            metric.unit,
            None if metric.name in BEST_INSIDE else metric.direction,
            is_p_value=metric.name.endswith("_p"),
        )
        for metric in METRICS.values()
    )
    floors = tuple(Quantity(f"{score.name}_floor", f"{score.title}, floor", score.unit) for score in scores)
    return scores + floors


_ALL = (
    Quantity("bound", "test bound", BITS, "lower"),
    Quantity("bound_at_t", "bound of a single step", BITS),
    Quantity("bound_total_se", "SE in all", BITS),
    Quantity("bound_data_se", "SE from data", BITS),
    Quantity("bound_step_se", "SE from steps t", BITS),
    Quantity("bound_noise_se", "SE from noise", BITS),
    Quantity("bound_decoder", "decoder, t = 1", BITS),
    Quantity("bound_diffusion", "diffusion, t > 1", BITS),
    Quantity("bound_prior", "prior, t = T", BITS),
    Quantity("bound_evaluations", "network evaluations of the bound", "evaluations per example"),
    Quantity("entropy", "entropy of the data", BITS),
    Quantity("bound_above_entropy", "above the entropy", BITS),
    *_at_t(Quantity("bound_floor", "floor of the bound", BITS), Quantity("bound_above_floor", "above the floor", BITS)),
    Quantity("epsilon_mse", "test epsilon MSE", PER_DIM, "lower"),
    Quantity("epsilon_mse_at_t", "test epsilon MSE at t", PER_DIM),
    *_at_t(
        Quantity("epsilon_mse_floor", "floor of the epsilon MSE", PER_DIM),
        Quantity("epsilon_mse_above_floor", "epsilon MSE above its floor", PER_DIM),
    ),
    *_at_t(Quantity("rate", "rate", BITS)),
    Quantity("distortion", "distortion, L₀", BITS),
    Quantity("distortion_at_t", "distortion at t", ""),
    Quantity("rmse", "RMSE of x₀ at t = 1", ""),
    *_likelihood("flow_decoder", "flow likelihood"),
    Quantity("flow_bound", "bound, same examples", BITS),
    Quantity("flow_minus_bound", "flow − bound", BITS),
    Quantity("flow_minus_bound_total_se", "flow − bound, standard error", BITS),
    Quantity("flow_examples", "examples of the flow", "examples"),
    Quantity("train_epsilon_mse", "epsilon MSE", PER_DIM),
    Quantity("train_posterior_kl", "posterior KL", BITS),
    Quantity("parameters", "parameters", "weights"),
    Quantity("diverged", "step at which the loss was not finite", "step"),
    Quantity("trained_together", "cells trained in one program", "cells"),
    Quantity("step_seconds", "a training step", SECONDS),
    Quantity("startup_seconds", "start-up", SECONDS),
    Quantity("train_seconds", "training time", SECONDS, "lower"),
    Quantity("bound_seconds", "bound", SECONDS),
    Quantity("floors_seconds", "floors", SECONDS),
    Quantity("flow_seconds", "flow", SECONDS),
    Quantity("sample_seconds", "samples", SECONDS),
    Quantity("samples_not_finite", "sample values that are not finite", "values"),
    Quantity("scored_samples", "samples scored", "examples"),
    Quantity("scored_reference", "test examples they were scored against", "examples"),
    *_of_samples(),
)

VOCABULARY: dict[str, Quantity] = {about.name: about for about in _ALL}


def title_of(metric: str) -> str:
    """The title as it stands at the head of a column."""
    title = VOCABULARY[metric].title
    return title[0].upper() + title[1:]
