"""DiffNaps: class-specific patterns from a binary auto-encoder. `shared.patterns` exports the same names.

>>> from shared.patterns import DiffNaps
>>> X = [[1, 1, 0, 0], [0, 0, 1, 1]] * 50
>>> y = ["left", "right"] * 50
>>> model = DiffNaps(n_hidden=4, batch_size=10, epochs=60, milestones=(50,), random_state=0).fit(X, y)
>>> model.patterns_
{'left': [(0, 1)], 'right': [(2, 3)]}
"""

from shared.patterns.diffnaps._baselines import (
    TooManyPatternsError,
    premise_patterns,
    significant_patterns,
    tree_patterns,
)
from shared.patterns.diffnaps._estimator import DiffNaps
from shared.patterns.diffnaps._layers import binary_linear, binary_linear_transposed, gated_step, logical_or
from shared.patterns.diffnaps._loss import (
    DiffNapsLoss,
    diffnaps_gradients,
    diffnaps_loss,
    length_penalty,
    w_shaped_penalty,
    weighted_xor,
)
from shared.patterns.diffnaps._network import DiffNapsNet, DiffNapsOutput
from shared.patterns.diffnaps._scores import (
    CoverageCurve,
    SoftF1,
    conjunction_matrix,
    coverage_curve,
    mean_log_odds,
    pattern_table,
    soft_f1_by_class,
)

__all__ = [
    "CoverageCurve",
    "DiffNaps",
    "DiffNapsLoss",
    "DiffNapsNet",
    "DiffNapsOutput",
    "SoftF1",
    "TooManyPatternsError",
    "binary_linear",
    "binary_linear_transposed",
    "conjunction_matrix",
    "coverage_curve",
    "diffnaps_gradients",
    "diffnaps_loss",
    "gated_step",
    "length_penalty",
    "logical_or",
    "mean_log_odds",
    "pattern_table",
    "premise_patterns",
    "significant_patterns",
    "soft_f1_by_class",
    "tree_patterns",
    "w_shaped_penalty",
    "weighted_xor",
]
