"""The statistics of a paired study: a handful of seeds, every cell of a seed on the same draws.

The seed is the unit of replication. Cells of one seed share data order, steps and noise, so they are compared
seed by seed and the spread of those differences carries the interval (Student's t, honest for 3 seeds where a
percentile bootstrap covers 73 %). Nothing here rounds or words a result; the report does.
"""

from studies.statistics.effects import objective_and_framework_effects
from studies.statistics.improvement import normal_probability_of_improvement, probability_of_improvement
from studies.statistics.intervals import Interval, mean_interval, p_value
from studies.statistics.multiplicity import ADJUSTMENTS, adjust, simultaneous_intervals
from studies.statistics.pairing import cell_table, complete_seeds, paired_difference, paired_differences, resolution
from studies.statistics.planning import seeds_needed, seeds_to_resolve, unpaired_seeds_needed
from studies.statistics.stopping import enough, sequential_interval, stein_seeds
from studies.statistics.variance import variance_split

__all__ = [
    "ADJUSTMENTS",
    "Interval",
    "adjust",
    "cell_table",
    "complete_seeds",
    "enough",
    "mean_interval",
    "normal_probability_of_improvement",
    "objective_and_framework_effects",
    "p_value",
    "paired_difference",
    "paired_differences",
    "probability_of_improvement",
    "resolution",
    "seeds_needed",
    "seeds_to_resolve",
    "sequential_interval",
    "simultaneous_intervals",
    "stein_seeds",
    "unpaired_seeds_needed",
    "variance_split",
]
