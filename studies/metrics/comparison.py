"""What a metric is given: samples, a reference to judge them by, the training set, and the work metrics share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from studies.metrics.features import FeatureSpace
from studies.metrics.mmd import MULTIPLES, unbiased_mmd2
from studies.metrics.neighbours import (
    DensityCoverage,
    Memorisation,
    PrecisionRecall,
    density_coverage,
    memorisation_test,
    precision_recall,
)
from studies.metrics.points import FloatArray
from studies.metrics.two_sample import TwoSampleResult, classifier_two_sample


@dataclass(frozen=True, eq=False)
class Comparison:
    """Samples (N, ...), reference (M, ...), train (L, ...), a way to the feature space, and the seed of draws.

    The properties are computed on first use and kept, since two or more metrics read each.
    """

    samples: FloatArray
    reference: FloatArray
    train: FloatArray
    learn_space: Callable[[], FeatureSpace]
    seed: int

    @cached_property
    def precision_recall(self) -> PrecisionRecall:
        return precision_recall(self.samples, self.reference)

    @cached_property
    def density_coverage(self) -> DensityCoverage:
        return density_coverage(self.samples, self.reference)

    @cached_property
    def mmd2(self) -> dict[float, float]:
        """Unbiased MMD^2 by multiple of the reference's median distance."""
        return dict(zip(MULTIPLES, unbiased_mmd2(self.samples, self.reference).tolist(), strict=True))

    @cached_property
    def two_sample(self) -> TwoSampleResult:
        return classifier_two_sample(self.samples, self.reference, seed=self.seed)

    @cached_property
    def memorisation(self) -> Memorisation:
        return memorisation_test(self.samples, self.train, self.reference)
