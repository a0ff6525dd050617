"""Statistics every room shares: intervals, ranks, tests, robust centres.

>>> from shared.stats import mean_interval
>>> low, high, mean, level = mean_interval([0.61, 0.58, 0.66, 0.60, 0.63])
>>> print(f"{mean:.3f} [{low:.3f}, {high:.3f}] at {level:.0%}")
0.616 [0.578, 0.654] at 95%
"""

from shared.stats._intervals import (
    Interval,
    difference_interval,
    mean_interval,
    paired_interval,
    wilson_interval,
)

__all__ = [
    "Interval",
    "difference_interval",
    "mean_interval",
    "paired_interval",
    "wilson_interval",
]
