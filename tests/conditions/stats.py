"""Conditions of `shared.stats`' functions."""

import numpy as np
import torch

from shared.stats import auroc
from tests.bad_input.good import normal, rand

SCALES = {
    "auroc": {"scores": 0},
    "average_precision": {"scores": 0},
    "difference_interval": {("values", "others"): (1, 1, 1, 0)},
    "geometric_median": {"points": 1, "weights": 0},
    "mean_interval": {"values": (1, 1, 1, 0)},
    "paired_interval": {("values", "others"): (1, 1, 1, 0)},
    "pearson": {"a": 0, "b": 0},
    "permutation_test": {("a", "b"): (1, 0, 1)},
    "rank_correlation": {"a": 0, "b": 0},
    "standardised": {"x": 0},
}

HALVES, ONE = torch.tensor([0, 1, 1, 0]), torch.ones(5)
VALUES = {  # case -> arguments, and the value or the argument that the error names
    "auroc": {
        "constant scores": (lambda: {"scores": torch.ones(4), "labels": HALVES}, 0.5),
        "one class": (lambda: {"scores": rand(4), "labels": torch.ones(4)}, torch.nan),
        "duplicates": (lambda: {"scores": rand(4).repeat(2), "labels": HALVES.repeat(2)}, auroc(rand(4), HALVES)),
    },
    "average_precision": {"constant scores": (lambda: {"scores": torch.ones(4), "labels": HALVES}, 0.5)},
    "mean_interval": {
        "one row": (lambda: {"values": np.array([2.0])}, "values"),
        "constant": (lambda: {"values": np.ones(5)}, [1.0, 1.0, 1.0, 0.95]),
    },
    "paired_interval": {"equal": (lambda: {"values": np.ones(5), "others": np.ones(5)}, [0.0, 0.0, 0.0, 0.95])},
    "difference_interval": {"one row": (lambda: {"values": np.ones(1), "others": np.ones(5)}, "values")},
    "geometric_median": {
        "one point": (lambda: {"points": rand(1, 3)}, rand(1, 3)[0]),
        "equal points": (lambda: {"points": torch.ones(5, 3)}, torch.ones(3)),
    },
    "pearson": {"constant": (lambda: {"a": np.ones(5), "b": normal(5)}, np.nan)},
    "rank_correlation": {"constant": (lambda: {"a": np.ones(5), "b": normal(5)}, np.nan)},
    "permutation_test": {
        "equal": (lambda: {"a": ONE.numpy(), "b": ONE.numpy(), "n_permutations": 9}, lambda r: r.p_value == 1),
        "one row": (lambda: {"a": normal(1, 2), "b": normal(4, 2)}, "a"),
    },
    "standardised": {
        "constant column": (lambda: {"x": torch.ones(5, 2)}, [torch.zeros(5, 2)]),
        "one row": (lambda: {"x": rand(1, 2)}, "x"),
    },
    "unit_norm": {
        "zero": (lambda: {"x": torch.zeros(2, 3)}, torch.zeros(2, 3)),
        "huge": (lambda: {"x": torch.full((4,), 1e30)}, torch.full((4,), 0.5)),
    },
    "deviations": {"constant column": (lambda: {"x": torch.ones(5, 2)}, torch.full((2,), torch.inf))},
    "share_difference_interval": {
        "one row": (lambda: {"successes": np.ones(1), "others": np.ones(1)}, "successes"),
        "equal": (lambda: {"successes": np.ones(5), "others": np.ones(5)}, lambda found: found.low < 0 < found.high),
    },
    "wilson_interval": {"no trial": (lambda: {"successes": 0, "n": 0}, "n")},
    "adjust_p_values": {"one": (lambda: {"p_values": [0.5]}, np.array([0.5]))},
}
CALLS = {"unit_norm": lambda: {"x": rand(9, 3)}}
