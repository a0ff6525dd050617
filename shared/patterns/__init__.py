"""Pattern mining by minimum description length: bit-packed data, codes, Premise, text collections, DiffNaps.

All names are exported here; the files of DiffNaps lie in `shared.patterns.diffnaps`.

>>> rows = [["how", "many"]] * 24 + [["what"]] * 32 + [["is"]] * 8
>>> labels = ["wrong"] * 24 + ["wrong"] * 8 + ["right"] * 32
>>> model = Premise(positive="right").fit(rows, labels)
>>> model.get_feature_names_out().tolist()
['how ∧ many', 'what']
"""

from shared.patterns._baselines import (
    Itemset,
    ctfidf,
    frequent_itemsets,
    log_odds,
    significant_itemsets,
    subgroups,
    tree_paths,
)
from shared.patterns._codes import (
    binomial_regret,
    code_length,
    code_length_change,
    log2_binomial,
    universal_code_length,
)
from shared.patterns._data import TransactionSet
from shared.patterns._draw import draw_patterns
from shared.patterns._fisher import log_fisher
from shared.patterns._metrics import (
    PrecisionRecall,
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
from shared.patterns.diffnaps import (
    CoverageCurve,
    DiffNaps,
    DiffNapsLoss,
    DiffNapsNet,
    DiffNapsOutput,
    SoftF1,
    TooManyPatternsError,
    binary_linear,
    binary_linear_transposed,
    conjunction_matrix,
    coverage_curve,
    diffnaps_gradients,
    diffnaps_loss,
    gated_step,
    length_penalty,
    logical_or,
    mean_log_odds,
    pattern_table,
    premise_patterns,
    significant_patterns,
    soft_f1_by_class,
    tree_patterns,
    w_shaped_penalty,
    weighted_xor,
)

__all__ = [
    "CoverageCurve",
    "DiffNaps",
    "DiffNapsLoss",
    "DiffNapsNet",
    "DiffNapsOutput",
    "Itemset",
    "Pattern",
    "PrecisionRecall",
    "Premise",
    "SoftF1",
    "Spotlight",
    "TooManyPatternsError",
    "TransactionSet",
    "binary_linear",
    "binary_linear_transposed",
    "binomial_regret",
    "clause_accuracy",
    "code_length",
    "code_length_change",
    "conjunction_matrix",
    "coverage_curve",
    "ctfidf",
    "diffnaps_gradients",
    "diffnaps_loss",
    "draw_patterns",
    "exact_hits",
    "frequent_itemsets",
    "gated_step",
    "jaccard",
    "length_penalty",
    "log2_binomial",
    "log_fisher",
    "log_odds",
    "logical_or",
    "matching_prf",
    "mean_log_odds",
    "nearest_items",
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
    "w_shaped_penalty",
    "weighted_xor",
]
