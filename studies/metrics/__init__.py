"""Sample quality for any signal, with nothing to download: one idea a module, every number beside its floor.

`evaluate` gives tidy rows; `METRICS` says what each number means. Importing this loads numpy alone;
scipy, scikit-learn, POT and PyTorch are loaded by the metrics that need them.
"""

from studies.metrics.evaluation import evaluate
from studies.metrics.features import FeatureSpace, learn_features
from studies.metrics.registry import METRICS, Metric

__all__ = ["METRICS", "FeatureSpace", "Metric", "evaluate", "learn_features"]
