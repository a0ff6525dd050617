"""Arguments of `shared.patterns`' functions."""

import numpy as np

from shared.patterns import TransactionSet
from tests.bad_input.good import Calls, normal

ROWS = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 1]])
LABELS = np.array([0, 0, 1, 1])
TABLE = {"X": ROWS, "y": LABELS}
FOUND = {0: [(2,)], 1: [(0, 1)]}

GOOD: Calls = {
    "conjunction_matrix": lambda: {"X": ROWS, "patterns": FOUND[1]},
    "coverage_curve": lambda: {"patterns": FOUND, **TABLE},
    "ctfidf": lambda: {"data": TransactionSet.from_csr(ROWS, LABELS), "counts": np.ones((2, 3))},
    "log2_binomial": lambda: {"n": np.array([5.0, 6.0]), "k": np.array([1.0, 2.0])},
    "log_fisher": lambda: {"n0": np.array([5, 6]), "n1": np.array([1, 2]), "n_label": (10, 10)},
    "mean_log_odds": lambda: {"patterns": FOUND, **TABLE},
    "nearest_items": lambda: {"vectors": normal(9, 4), "k": 3},
    "pattern_table": lambda: {"patterns": FOUND, **TABLE},
    "premise_patterns": lambda: TABLE,
    "significant_patterns": lambda: TABLE,
    "tree_patterns": lambda: TABLE,
}
LAYER = "a layer or a term of DiffNaps' network, run in each step; DiffNapsNet.forward and DiffNaps.fit check the rows"
ELSEWHERE = {
    **dict.fromkeys(("binary_linear", "binary_linear_transposed", "gated_step", "logical_or"), LAYER),
    **dict.fromkeys(("diffnaps_gradients", "diffnaps_loss"), LAYER),
    **dict.fromkeys(("length_penalty", "w_shaped_penalty", "weighted_xor"), LAYER),
}
ANY_RANK = {("log2_binomial", "n"), ("log_fisher", "n0")}
ANY_NUMBER = {("nearest_items", "vectors")}  # a row of NaN: an item without a vector
FEWER = {("log2_binomial", "k")}  # a number for all
