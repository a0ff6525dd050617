"""Arguments of `shared.stats`' functions."""

import numpy as np
import torch

from tests.bad_input.good import Calls, normal, rand

LABELS = torch.tensor([[0, 1], [1, 0], [1, 1], [0, 0]])
GOOD: Calls = {
    "auroc": lambda: {"scores": rand(4, 2), "labels": LABELS},
    "average_precision": lambda: {"scores": rand(4, 2), "labels": LABELS.double()},
    "deviations": lambda: {"x": rand(9, 3)},
    "difference_interval": lambda: {"values": normal(20), "others": normal(20, seed=1)},
    "geometric_median": lambda: {"points": rand(9, 3), "weights": torch.ones(9)},
    "mean_interval": lambda: {"values": normal(20)},
    "paired_interval": lambda: {"values": normal(20), "others": normal(20, seed=1)},
    "pearson": lambda: {"a": normal(2, 9), "b": normal(2, 9, seed=1)},
    "permutation_test": lambda: {"a": normal(9, 2), "b": normal(8, 2, seed=1), "n_permutations": 9},
    "rank_correlation": lambda: {"a": rand(2, 9), "b": rand(2, 9).flip(1)},
    "share_difference_interval": lambda: {"successes": np.array([1, 0, 1, 1]), "others": np.array([0, 0, 1, 1])},
    "standardised": lambda: {"x": rand(9, 3)},
    "wilson_interval": lambda: {"successes": np.array([0, 3]), "n": np.array([4, 5])},
}
ELSEWHERE = {"unit_norm": "a step of others, which check; NaN stays NaN"}
ANY_RANK = {  # further axes hold further means
    ("mean_interval", "values"),
    ("wilson_interval", "successes"),
    ("wilson_interval", "n"),
}
FEWER = {("deviations", "x"), ("standardised", "x")}  # one column
