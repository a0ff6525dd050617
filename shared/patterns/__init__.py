"""Pattern mining by minimum description length: bit-packed data, codes, Premise, text collections, DiffNaps."""

from shared.patterns._codes import binomial_regret, code_length, gain, log2_binomial, universal_code_length
from shared.patterns._data import TransactionSet
from shared.patterns._fisher import log_fisher
from shared.patterns._neighbours import nearest_items
from shared.patterns._patterns import Pattern, pattern_text
from shared.patterns._premise import Premise

__all__ = [
    "Pattern",
    "Premise",
    "TransactionSet",
    "binomial_regret",
    "code_length",
    "gain",
    "log2_binomial",
    "log_fisher",
    "nearest_items",
    "pattern_text",
    "universal_code_length",
]
