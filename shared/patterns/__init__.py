"""Pattern mining by minimum description length: bit-packed data, codes, Premise, text collections, DiffNaps."""

from shared.patterns._baselines import (
    Itemset,
    ctfidf,
    frequent_itemsets,
    log_odds,
    significant_itemsets,
    subgroups,
    tree_paths,
)
from shared.patterns._codes import binomial_regret, code_length, gain, log2_binomial, universal_code_length
from shared.patterns._data import TransactionSet
from shared.patterns._diffnaps import DiffNaps
from shared.patterns._diffnaps_baselines import (
    TooManyPatternsError,
    premise_patterns,
    significant_patterns,
    tree_patterns,
)
from shared.patterns._diffnaps_net import (
    DiffNapsNet,
    DiffNapsOutput,
    binary_linear,
    binary_linear_transposed,
    diffnaps_loss,
    gated_step,
    logical_or,
    pattern_length,
    w_shaped,
    weighted_xor,
)
from shared.patterns._diffnaps_scores import (
    CoverageCurve,
    SoftF1,
    coverage_curve,
    holds,
    mean_log_odds,
    pattern_table,
    soft_f1_by_class,
)
from shared.patterns._diffnaps_step import diffnaps_gradients
from shared.patterns._draw import draw_patterns
from shared.patterns._fisher import log_fisher
from shared.patterns._metrics import (
    Score,
    clause_accuracy,
    exact_hits,
    jaccard,
    matching_prf,
    soft_f1,
    trap_violations,
)
from shared.patterns._neighbours import nearest_items
from shared.patterns._patterns import Pattern, pattern_text
from shared.patterns._premise import Premise
from shared.patterns._spotlight import Spotlight
from shared.patterns._text import tokenize_words

__all__ = [
    "CoverageCurve",
    "DiffNaps",
    "DiffNapsNet",
    "DiffNapsOutput",
    "Itemset",
    "Pattern",
    "Premise",
    "Score",
    "SoftF1",
    "Spotlight",
    "TooManyPatternsError",
    "TransactionSet",
    "binary_linear",
    "binary_linear_transposed",
    "binomial_regret",
    "clause_accuracy",
    "code_length",
    "coverage_curve",
    "ctfidf",
    "diffnaps_gradients",
    "diffnaps_loss",
    "draw_patterns",
    "exact_hits",
    "frequent_itemsets",
    "gain",
    "gated_step",
    "holds",
    "jaccard",
    "log2_binomial",
    "log_fisher",
    "log_odds",
    "logical_or",
    "matching_prf",
    "mean_log_odds",
    "nearest_items",
    "pattern_length",
    "pattern_table",
    "pattern_text",
    "premise_patterns",
    "significant_itemsets",
    "significant_patterns",
    "soft_f1",
    "soft_f1_by_class",
    "subgroups",
    "tokenize_words",
    "trap_violations",
    "tree_paths",
    "tree_patterns",
    "universal_code_length",
    "w_shaped",
    "weighted_xor",
]
