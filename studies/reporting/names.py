"""How a report names things: levels of factors, recipes, metrics, samplers."""

# ruff: noqa: RUF001
from __future__ import annotations

from dataclasses import replace

from studies.metrics.registry import METRICS
from studies.metrics.vocabulary import VOCABULARY, Quantity
from studies.store.recipes import SEPARATOR, Recipe
from studies.store.sampler_chains import Chain, Family

NAMES = {
    "epsilon_mse": "epsilon MSE",
    "posterior_kl": "posterior KL",
    "target_mse": "target MSE",
    "hybrid": "hybrid",
    "torch": "PyTorch",
    "keras": "Keras",
    "x_0": "x₀",
    "beta_tilde": "β̃",
    "beta": "β",
    "learned_range": "learned range",
    "learned_diagonal": "learned diagonal",
    "uniform": "uniform t",
    "stratified": "stratified t",
    "importance": "t by importance",
    "swiss_roll": "swiss roll",
    "italy_power_demand": "Italy power demand",
    "bits/dim": "bits/dim",
}

IN_FULL = {
    "epsilon_mse": "epsilon MSE (L_simple)",
    "posterior_kl": "posterior KL (the variational bound)",
    "target_mse": "target MSE (plain regression of what the network predicts)",
    "hybrid": "hybrid (L_simple + λ L_vlb)",
}


def quantity(metric: str, unit: str = "") -> Quantity:
    """What is known of a metric; one that is not in the vocabulary has its own name as title, and no direction.

    `unit` is what the rows say; the registry's own unit stands for a metric of samples.
    """
    known = VOCABULARY.get(metric)
    if known is None:
        return Quantity(metric, metric.replace("_", " "), unit)
    return known if metric in METRICS or not unit else replace(known, unit=unit)


def unit_of(about: Quantity) -> str:
    """The unit of a metric as an axis says it; empty where it has none."""
    return "" if about.unit in ("", "1") else about.unit


def name_of(level: object) -> str:
    """The short name of a level or of a recipe: "posterior KL · x₀" of posterior_kl and x_0."""
    return SEPARATOR.join(NAMES.get(part, part) for part in _levels_of(level))


def difference_name(first: object, second: object) -> str:
    """ "x₀ − epsilon"; for two recipes that differ in one of several factors, "x₀ − epsilon with posterior KL"."""
    if isinstance(first, Recipe) and isinstance(second, Recipe):
        differing = first.differing(second)
        shared = [first.level(factor) for factor in first.factors if factor not in differing]
        if len(differing) == 1 and shared:
            levels = f"{name_of(first.level(differing[0]))} − {name_of(second.level(differing[0]))}"
            return f"{levels} with {SEPARATOR.join(map(name_of, shared))}"
    return f"{name_of(first)} − {name_of(second)}"


def full_name_of(level: object) -> str:
    """The name of a level or recipe with what it stands for, for where a text first mentions it."""
    return SEPARATOR.join(IN_FULL.get(part, NAMES.get(part, part)) for part in _levels_of(level))


def _levels_of(level: object) -> tuple[str, ...]:
    """The levels of a recipe; a level alone is the only one of itself."""
    return level.levels if isinstance(level, Recipe) else (str(level),)


def sampler_name(sampler: str) -> str:
    """ "ancestral-100" is "ancestral, 100 steps"; "ddim-50-logsnr" is "DDIM (log SNR), 50 steps"."""
    chain = Chain.named(sampler)
    return family_name(sampler_family(sampler)) + ("" if chain is None else f", {chain.steps} steps")


def family_name(family: Family) -> str:
    """ "DDIM"; "DDIM (log SNR)" where the steps are not spread evenly in t."""
    name = {"ddim": "DDIM", "dpm_solver": "DPM-Solver++"}.get(family.sampler, family.sampler.replace("_", " "))
    spacing = {"uniform": "", "logsnr": " (log SNR)"}.get(family.spacing, f" ({family.spacing})")
    return name + spacing


def sampler_family(sampler: str) -> Family:
    """What the chain of that name has in common with longer and shorter ones."""
    chain = Chain.named(sampler)
    return Family.named(sampler) if chain is None else chain.family


def sampler_steps(sampler: str) -> int | None:
    """The steps of the chain of that name; None where it does not say."""
    chain = Chain.named(sampler)
    return None if chain is None else chain.steps
