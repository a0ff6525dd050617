"""Statistics every room shares: intervals, ranks, tests, robust centres.

>>> from shared.stats import mean_interval
>>> low, high, mean, level = mean_interval([0.61, 0.58, 0.66, 0.60, 0.63])
>>> print(f"{mean:.3f} [{low:.3f}, {high:.3f}] at {level:.0%}")
0.616 [0.578, 0.654] at 95%
"""

from shared.stats._centres import geometric_median
from shared.stats._dtype import wide_dtype
from shared.stats._intervals import (
    Interval,
    difference_interval,
    mean_interval,
    paired_interval,
    share_difference_interval,
    wilson_interval,
)
from shared.stats._ranks import CORRELATIONS, auroc, average_precision, pearson, rank_correlation
from shared.stats._scale import deviations, standardised, unit_norm
from shared.stats._tests import CORRECTIONS, STATISTICS, PermutationResult, adjust_p_values, permutation_test

__all__ = [
    "CORRECTIONS",
    "CORRELATIONS",
    "STATISTICS",
    "Interval",
    "PermutationResult",
    "adjust_p_values",
    "auroc",
    "average_precision",
    "deviations",
    "difference_interval",
    "geometric_median",
    "mean_interval",
    "paired_interval",
    "pearson",
    "permutation_test",
    "rank_correlation",
    "share_difference_interval",
    "standardised",
    "unit_norm",
    "wide_dtype",
    "wilson_interval",
]
