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
    names : (str, str)
        Of the two collections, for tables.
    tokenizer : callable, optional
        Text to list of tokens; `tokenize_words`, case kept, unless told.
    alpha, correction, min_overlap
        As in `Premise`.
    min_count : int
        Least number of texts a token must occur in.
    progress : bool
        Show a progress bar.

    Attributes
    ----------
    patterns_ : list of Pattern
        Direction 0 stands for the first collection.
    data_ : TransactionSet
        The texts' tokens.
    texts_ : list of str
        The texts, the first collection's before the second's.
    saved_bits_ : float
        By how much the patterns shorten the code.
    """

    def __init__(
        self,
        *,
        names: tuple[str, str] = ("first", "second"),
        tokenizer: Callable[[str], list[str]] | None = None,
        alpha: float = 0.01,
        correction: str = "none",
        min_overlap: float = 0.3,
        min_count: int = 1,
        progress: bool = False,
    ) -> None:
        self.names = names
        self.tokenizer = tokenizer
        self.alpha = alpha
        self.correction = correction
        self.min_overlap = min_overlap
        self.min_count = min_count
        self.progress = progress

    def fit(self, first: Sequence[str], second: Sequence[str]) -> Spotlight:
        """Compare two collections of texts; warns when one has fewer than five: next to nothing is significant then.

        Parameters
        ----------
        first, second : sequences of str
            The texts.

        Returns
        -------
        Spotlight
            Itself.

        Raises
        ------
        ValueError
            For an empty collection.
        TypeError
            For what is no string.
        """
        groups = [_checked_texts(name, texts) for name, texts in (("first", first), ("second", second))]
        tokenize = self.tokenizer or tokenize_words
        labels = np.repeat([0, 1], [len(g) for g in groups])
        self.texts_ = [t for group in groups for t in group]
        lists = [tokenize(t) for t in self.texts_]
        self.data_ = TransactionSet.from_token_lists(lists, labels, min_count=self.min_count)
        model = Premise(
            alpha=self.alpha, correction=self.correction, min_overlap=self.min_overlap, progress=self.progress
        ).fit(self.data_)
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

    def examples(self, index: int, *, count: int = 2) -> list[str]:
        """Texts that hold a pattern, from the collection it points to.

        Parameters
        ----------
        index : int
            Into `patterns_`.
        count : int
            At most so many.

        Returns
        -------
        list of str
            The first of them.
        """
        check_is_fitted(self, "patterns_")
        pattern = self.patterns_[index]
        rows = self.data_.row_numbers(unpack(support_words(self.data_, pattern.clauses)))
        return [self.texts_[r] for r in rows if self.data_.labels[r] == pattern.direction][:count]


def _checked_texts(name: str, texts: Sequence[str]) -> list[str]:
    texts = list(texts)
    if not texts:
        raise ValueError(f"{name} is empty; both collections need texts")
    if wrong := [type(t).__name__ for t in texts if not isinstance(t, str)]:
        raise TypeError(f"{name} holds {wrong[0]}; expected strings")
    if len(texts) < FEW:
        warnings.warn(f"{name} has only {len(texts)} texts; hardly anything can be significant", stacklevel=3)
    return texts
