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
from shared.patterns._synthetic import Planted, plant_clauses, plant_conjunctions

__all__ = [
    "Itemset",
    "Pattern",
    "Planted",
    "Premise",
    "Score",
    "TransactionSet",
    "binomial_regret",
    "clause_accuracy",
    "code_length",
    "ctfidf",
    "exact_hits",
    "frequent_itemsets",
    "gain",
    "jaccard",
    "log2_binomial",
    "log_fisher",
    "log_odds",
    "matching_prf",
    "nearest_items",
    "pattern_text",
    "plant_clauses",
    "plant_conjunctions",
    "significant_itemsets",
    "soft_f1",
    "subgroups",
    "trap_violations",
    "tree_paths",
    "universal_code_length",
]
