"""The metrics by name: what each one's number means, and how it is had from a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from studies.metrics.comparison import Comparison
from studies.metrics.frechet import feature_frechet, frechet_distance
from studies.metrics.inception import inception_frechet
from studies.metrics.mmd import MULTIPLES
from studies.metrics.wasserstein import sliced_wasserstein_2, wasserstein_2

AT_LEAST_0, FROM_0_TO_1 = (0.0, math.inf), (0.0, 1.0)


@dataclass(frozen=True)
class Metric:
    """One number about samples: unit, better direction, ideal value, and how it errs at finite sample size.

    `ideal` is what two sets from one distribution tend to as they grow; where that is `best_inside` the range, neither
    direction is better throughout. `least`: with fewer samples, or fewer points of reference, it is not defined.
    `range`: the least and the largest value there can be, None where there are none. `by_default` is False for a metric
    that needs more than the data.
    """

    name: str
    title: str
    unit: str
    direction: Literal["lower", "higher"]
    ideal: float
    bias_note: str
    function: Callable[[Comparison], float]
    least: int
    range: tuple[float, float] | None = AT_LEAST_0
    best_inside: bool = False
    is_p_value: bool = False
    by_default: bool = True


def _mmd(multiple: float) -> Metric:
    return Metric(
        name=f"mmd2_{multiple:g}",
        title=f"MMD², bandwidth {multiple:g} x median distance",
        unit="1",
        direction="lower",
        ideal=0.0,
        bias_note="Unbiased: at the ideal its mean is 0, and single values fall below 0 as often as chance has it.",
        function=lambda comparison: comparison.mmd2[multiple],
        least=2,
        range=None,
    )


_ALL = (
    Metric(
        name="frechet",
        title="Fréchet distance, data space",
        unit="squared data units",
        direction="lower",
        ideal=0.0,
        bias_note="Too high by about (1/N + 1/M) times a factor that grows with the variance and the dimension.",
        function=lambda c: frechet_distance(c.samples, c.reference),
        least=2,
    ),
    Metric(
        name="frechet_features",
        title="Fréchet distance, learned features",
        unit="variance of the features",
        direction="lower",
        ideal=0.0,
        bias_note="Too high by about (1/N + 1/M) times a factor that grows with width; compares in one space only.",
        function=lambda c: feature_frechet(c.samples, c.reference, c.learn_space()),
        least=2,
    ),
    Metric(
        name="sliced_w2",
        title="Sliced Wasserstein distance W₂",
        unit="data units",
        direction="lower",
        ideal=0.0,
        bias_note="Too high, by about 1/√N at worst, whatever the dimension.",
        function=lambda c: sliced_wasserstein_2(c.samples, c.reference, seed=c.seed),
        least=1,
    ),
    Metric(
        name="w2",
        title="Wasserstein distance W₂",
        unit="data units",
        direction="lower",
        ideal=0.0,
        bias_note="Too high, by about N^(-1/D) in D > 4 dimensions: there most of it is floor.",
        function=lambda c: wasserstein_2(c.samples, c.reference),
        least=1,
    ),
    *(_mmd(multiple) for multiple in MULTIPLES),
    Metric(
        name="precision",
        title="Precision (k = 3)",
        unit="fraction",
        direction="higher",
        ideal=1.0,
        bias_note="Too low, more so in high dimension; an outlier in the reference raises it.",
        function=lambda c: c.precision_recall.precision,
        least=4,
        range=FROM_0_TO_1,
    ),
    Metric(
        name="recall",
        title="Recall (k = 3)",
        unit="fraction",
        direction="higher",
        ideal=1.0,
        bias_note="Too low, more so in high dimension; an outlier among the samples raises it.",
        function=lambda c: c.precision_recall.recall,
        least=4,
        range=FROM_0_TO_1,
    ),
    Metric(
        name="density",
        title="Density (k = 5)",
        unit="1",
        direction="higher",
        ideal=1.0,
        bias_note="Unbiased: at the ideal its mean is 1; above 1 the samples crowd the modes.",
        function=lambda c: c.density_coverage.density,
        least=6,
        best_inside=True,
    ),
    Metric(
        name="coverage",
        title="Coverage (k = 5)",
        unit="fraction",
        direction="higher",
        ideal=1.0,
        bias_note="At the ideal its mean is 1 - (M-1)...(M-5) / ((M+N-1)...(M+N-5)): 0.97 when N = M.",
        function=lambda c: c.density_coverage.coverage,
        least=6,
        range=FROM_0_TO_1,
    ),
    Metric(
        name="c2st",
        title="Classifier two-sample test, accuracy",
        unit="fraction",
        direction="lower",
        ideal=0.5,
        bias_note="Mean about 1/2 at the ideal; away from it too low, since the classifier learns from few points.",
        function=lambda c: c.two_sample.accuracy,
        least=10,
        range=FROM_0_TO_1,
    ),
    Metric(
        name="c2st_p",
        title="Classifier two-sample test, p-value",
        unit="probability",
        direction="higher",
        ideal=0.5,
        bias_note="Uniform at the ideal, in steps of 1/200; falls with the sample size if the sets differ at all.",
        function=lambda c: c.two_sample.p_value,
        least=10,
        range=FROM_0_TO_1,
        is_p_value=True,
    ),
    Metric(
        name="memorisation",
        title="Samples nearer to train than test points are",
        unit="probability",
        direction="lower",
        ideal=0.5,
        bias_note="Unbiased: at the ideal its mean is 1/2. Below it the samples are far from all data: no better.",
        function=lambda c: c.memorisation.nearer,
        least=2,
        range=FROM_0_TO_1,
        best_inside=True,
    ),
    Metric(
        name="memorisation_p",
        title="Memorisation, one-sided p-value",
        unit="probability",
        direction="higher",
        ideal=0.5,
        bias_note="Uniform at the ideal; falls with the sample size when samples are nearer to train at all.",
        function=lambda c: c.memorisation.p_value,
        least=20,
        range=FROM_0_TO_1,
        is_p_value=True,
    ),
    Metric(
        name="fid",
        title="FID, Inception features",
        unit="1",
        direction="lower",
        ideal=0.0,
        bias_note="Too high by about (1/N + 1/M) times a large factor: published values use 50,000 samples.",
        function=lambda c: inception_frechet(c.samples, c.reference),
        least=2,
        by_default=False,
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def chosen(names: object = None) -> list[Metric]:
    """The metrics of these names, in that order; None means all that need only the data."""
    if names is None:
        return [metric for metric in METRICS.values() if metric.by_default]
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise ValueError(f"names: expected a list of metric names, got {names!r}; known are {', '.join(METRICS)}")
    asked = list(names)
    unknown = [name for name in asked if name not in METRICS]
    if unknown:
        raise ValueError(f"names: no metric {', '.join(map(repr, unknown))}; known are {', '.join(METRICS)}")
    return [METRICS[name] for name in asked]
