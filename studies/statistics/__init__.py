"""The statistics of a paired study: a handful of seeds, every cell of a seed on the same draws.

The seed is the unit of replication. Cells of one seed share data order, steps and noise, so they are compared
seed by seed and the spread of those differences carries the interval (Student's t, honest for 3 seeds where a
percentile bootstrap covers 73 %). Nothing here rounds or words a result; the report does.
"""

from studies.statistics.improvement import probability_of_improvement
from studies.statistics.intervals import Interval, mean_interval
from studies.statistics.multiplicity import joint_confidence
from studies.statistics.pairing import cell_table, complete_seeds, paired_differences
from studies.statistics.planning import seeds_needed, seeds_to_resolve, unpaired_seeds_needed
from studies.statistics.stopping import sequential_interval, stein_seeds
from studies.statistics.variance import variance_split

__all__ = [
    "Interval",
    "cell_table",
    "complete_seeds",
    "joint_confidence",
    "mean_interval",
    "paired_differences",
    "probability_of_improvement",
    "seeds_needed",
    "seeds_to_resolve",
    "sequential_interval",
    "stein_seeds",
    "unpaired_seeds_needed",
    "variance_split",
]
