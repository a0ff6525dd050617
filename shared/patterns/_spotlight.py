"""Spotlight: what differs systematically between two collections of texts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from shared.patterns._bits import unpack
from shared.patterns._codes import support_words
from shared.patterns._data import TransactionSet
from shared.patterns._premise import Premise
from shared.patterns._text import tokenize_words

FEW = 5


class Spotlight(BaseEstimator):
    """Token patterns that are more frequent in one of two collections (Hedderich et al., ACL 2025).

    Each text is a row of its distinct tokens, the collection is the label, Premise finds the patterns. Decoding noise,
    which both collections have, passes neither its code nor Fisher's test; a person then reads the texts behind each
    pattern. An empty list means that no systematic difference was found.

    Parameters
    ----------
    names : of the two collections, for tables.
    tokenizer : text to list of tokens (default `tokenize_words`, case kept).
    alpha, correction, min_overlap : as in `Premise`. min_count : least number of texts a token must occur in.

    Attributes
    ----------
    patterns_ : list of `Pattern`, direction 0 for the first collection. data_ : the `TransactionSet`.
    """

    def __init__(
        self,
        names: tuple[str, str] = ("first", "second"),
        *,
        tokenizer: Callable[[str], list[str]] | None = None,
        alpha: float = 0.01,
        correction: str = "none",
        min_overlap: float = 0.3,
        min_count: int = 1,
    ) -> None:
        self.names = names
        self.tokenizer = tokenizer
        self.alpha = alpha
        self.correction = correction
        self.min_overlap = min_overlap
        self.min_count = min_count

    def fit(self, first: Sequence[str], second: Sequence[str]) -> Spotlight:
        """Compare two collections of texts. Warns when one has fewer than five: next to nothing is significant then."""
        texts = []
        for name, group in zip(("first", "second"), (first, second)):
            group = list(group)
            if not group:
                raise ValueError(f"{name} is empty; both collections need texts")
            if wrong := [type(t).__name__ for t in group if not isinstance(t, str)]:
                raise TypeError(f"{name} holds {wrong[0]}; expected strings")
            if len(group) < FEW:
                warnings.warn(f"{name} has only {len(group)} texts; hardly anything can be significant", stacklevel=2)
            texts.append(group)
        tokenize = self.tokenizer or tokenize_words
        labels = np.repeat([0, 1], [len(g) for g in texts])
        self.texts_ = [t for group in texts for t in group]
        lists = [tokenize(t) for t in self.texts_]
        self.data_ = TransactionSet.from_token_lists(lists, labels, min_count=self.min_count)
        model = Premise(self.alpha, correction=self.correction, min_overlap=self.min_overlap).fit(self.data_)
        self.patterns_ = model.patterns_
        self.saved_bits_ = model.baseline_code_length_ - model.code_length_
        self._frame = model.to_frame()
        return self

    def token_sets(self) -> list[frozenset[str]]:
        """The patterns as sets of tokens."""
        check_is_fitted(self, "patterns_")
        return [frozenset(self.data_.names[i] for i in p.items) for p in self.patterns_]

    def to_frame(self) -> pd.DataFrame:
        """The patterns as a table, largest gain first, with the number of texts of each collection."""
        check_is_fitted(self, "patterns_")
        frame = self._frame.rename(columns={"n_0": self.names[0], "n_1": self.names[1]})
        frame["towards"] = [self.names[int(d)] for d in frame["towards"]]
        return frame.drop(columns="origin")

    def examples(self, index: int, count: int = 2) -> list[str]:
        """Texts that hold pattern `index`, from the collection it points to."""
        check_is_fitted(self, "patterns_")
        pattern = self.patterns_[index]
        rows = self.data_.row_numbers(unpack(support_words(self.data_, pattern.clauses)))
        return [self.texts_[r] for r in rows if self.data_.labels[r] == pattern.direction][:count]
