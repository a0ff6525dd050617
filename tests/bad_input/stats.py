"""Arguments of `shared.stats`' functions."""

import numpy as np

from tests.bad_input.good import Calls, normal

GOOD: Calls = {
    "difference_interval": lambda: {"values": normal(20), "others": normal(20, seed=1)},
    "mean_interval": lambda: {"values": normal(20)},
    "paired_interval": lambda: {"values": normal(20), "others": normal(20, seed=1)},
    "wilson_interval": lambda: {"successes": np.array([0, 3]), "n": np.array([4, 5])},
}
ANY_RANK = {  # further axes hold further means
    ("mean_interval", "values"),
    ("wilson_interval", "successes"),
    ("wilson_interval", "n"),
}
