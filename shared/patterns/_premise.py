"""Premise: the pattern set that best describes the features of two groups of rows, as a scikit-learn estimator."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from shared._checks import check_choice, check_range
from shared.patterns._candidates import (
    grow_pairs,
    pairs_of_items,
    pairs_to_explore,
    table_of_clauses,
    table_of_items,
)
from shared.patterns._codes import Codes
from shared.patterns._data import TransactionSet, as_binary_csr, encode_labels, frame_to_csr, tokens_to_csr
from shared.patterns._fisher import direction, least_support, log_fisher_of
from shared.patterns._neighbours import clause_depth, nearest_as
from shared.patterns._patterns import Pattern, pattern_text
from shared.patterns._search import Member, Search

CORRECTIONS = ("none", "bonferroni", "bh")


class Premise(TransformerMixin, BaseEstimator):
    """Label-descriptive patterns by minimum description length (Hedderich, Fischer, Klakow and Vreeken, ICML 2022).

    Finds a short set of patterns (conjunctions of items, or of clauses of mutually exclusive items) that go with one of
    two labels, by greedily shortening the two-part code of the features given the labels. Only patterns whose link to
    the label passes Fisher's exact test are taken. The search has no randomness: the same data give the same patterns.

    Parameters
    ----------
    alpha : largest p-value of Fisher's one-sided test. correction : "none" (as the authors' program), "bonferroni" or
        "bh" (Benjamini–Hochberg) over the single clauses and pairs that were tested.
    min_overlap : what share of the rows two clauses must have in common to be joined.
    n_neighbors : how many neighbours (by `item_vectors`) a clause may take; 0 for plain conjunctions.
    clause_max_overlap : what share of a clause's rows may hold two of its items.
    max_patterns : stop at so many patterns. positive : the label that becomes 1, if labels are not 0 and 1.
    retire : leave an item alone for good once its single clause did not pay (as the authors' program).
    max_memory_gb : largest packed table; a larger one is a `ValueError` with the estimate.
    verbose : show a progress bar. An interrupted `fit` keeps the patterns found so far and warns.

    Attributes
    ----------
    patterns_ : list of `Pattern`. names_ : item names. classes_ : the labels behind 0 and 1.
    baseline_code_length_, code_length_ : bits without and with patterns. trace_ : one dict per accepted step.
    """

    def __init__(
        self,
        alpha: float = 0.01,
        *,
        min_overlap: float = 0.3,
        n_neighbors: int = 0,
        clause_max_overlap: float = 0.05,
        correction: str = "none",
        max_patterns: int | None = None,
        positive: Hashable | None = None,
        retire: bool = True,
        max_memory_gb: float = 4.0,
        verbose: bool = False,
    ) -> None:
        self.alpha = alpha
        self.min_overlap = min_overlap
        self.n_neighbors = n_neighbors
        self.clause_max_overlap = clause_max_overlap
        self.correction = correction
        self.max_patterns = max_patterns
        self.positive = positive
        self.retire = retire
        self.max_memory_gb = max_memory_gb
        self.verbose = verbose

    # --- fit -------------------------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None, item_vectors: np.ndarray | None = None, *, weights: Any = None) -> Premise:
        """Find the patterns of rows X with labels y.

        X : `TransactionSet` (then without y), sparse or dense matrix (N, M), data frame, or list of token lists.
        item_vectors : (M, d), one row per item, for `n_neighbors` > 0; NaN rows stand for items without a vector.
        weights : (N,) whole numbers, how often each row counts.
        """
        self._check_parameters(item_vectors)
        data = self._data(X, y, weights)
        self.names_ = data.names
        self.n_features_in_ = data.n_items
        search, codes, constant = self._prepare(data, item_vectors)
        self.baseline_code_length_ = float(codes.singles(data.item_counts.sum(0)).sum())
        self.code_length_ = self.baseline_code_length_
        self.trace_ = []
        self.interrupted_ = False
        try:
            self._run(search)
        except KeyboardInterrupt:
            self.interrupted_ = True
            warnings.warn(f"interrupted; keeping the {len(search.members)} patterns found so far", stacklevel=2)
        self.patterns_ = [self._pattern(m, constant, data.n_label) for m in search.members]
        return self

    def _check_parameters(self, item_vectors: np.ndarray | None) -> None:
        check_range("alpha", self.alpha, 0, 1)
        check_range("min_overlap", self.min_overlap, 0, 1)
        check_range("clause_max_overlap", self.clause_max_overlap, 0, 1)
        check_range("n_neighbors", self.n_neighbors, 0)
        check_choice("correction", self.correction, CORRECTIONS)
        if self.n_neighbors and item_vectors is None:
            raise ValueError(f"n_neighbors={self.n_neighbors} needs item_vectors, one row per item")

    def _data(self, X: Any, y: Any, weights: Any) -> TransactionSet:
        if isinstance(X, TransactionSet):
            if y is not None or weights is not None:
                raise ValueError("X is a TransactionSet, which holds labels and weights; leave y and weights out")
            self.classes_ = (0, 1)
            return X
        if y is None:
            raise ValueError("y is missing; expected one label per row")
        _, self.classes_ = encode_labels(y, self.positive)
        if isinstance(X, pd.DataFrame):
            return TransactionSet.from_frame(X, y, weights=weights, positive=self.positive)
        if isinstance(X, list | tuple) and (not len(X) or not np.isscalar(X[0]) or isinstance(X[0], str)):
            if not (len(X) and isinstance(X[0], list | tuple | np.ndarray) and _numeric(X)):
                return TransactionSet.from_token_lists(X, y, weights=weights, positive=self.positive)
        return TransactionSet.from_csr(X, y, weights=weights, positive=self.positive)

    def _prepare(self, data: TransactionSet, vectors: np.ndarray | None) -> tuple[Search, Codes, np.ndarray]:
        """The tables of candidates, on the items that can take part at all."""
        codes = Codes(data.n_rows, data.n_items, data.n_label)
        total = data.item_counts.sum(0)
        if self.n_neighbors:
            kept = np.arange(data.n_items)
        else:  # an item too rare to pass the test can't be in a pattern: dropping it changes nothing
            kept = np.flatnonzero(total >= least_support(self.alpha, data.n_label))
        self._check_memory(data, len(kept))
        small = TransactionSet(data.rows[:, kept], data.labels, [data.names[i] for i in kept])
        columns = small.words(np.arange(len(kept)))
        if self.n_neighbors:
            vectors = np.asarray(vectors, dtype=float)
            if len(vectors) != data.n_items:
                raise ValueError(
                    f"item_vectors has {len(vectors)} rows for {data.n_items} items; expected one per item"
                )
            numbers, similarity = nearest_as("item_vectors", vectors, self.n_neighbors, data.names)
            depth = clause_depth(small, numbers, similarity, self.clause_max_overlap, columns)
            chains = [((i, *numbers[i, :k].tolist()),) for i in range(len(kept)) for k in range(depth[i] + 1)]
            singles = table_of_clauses(codes, small, chains, columns)
            pairs = grow_pairs(pairs_to_explore(small, numbers, columns, self.min_overlap), numbers, depth)
            pairs = table_of_clauses(codes, small, pairs, columns)
        else:
            numbers, depth = np.zeros((len(kept), 0), dtype=np.int64), np.zeros(len(kept), dtype=np.int64)
            singles = table_of_items(codes, small, np.arange(len(kept))[:, None], small.item_counts.T)
            pairs = table_of_items(codes, small, *pairs_of_items(small, np.arange(len(kept)), self.min_overlap))
        log_p = log_fisher_of(pairs.counts[:, 0], pairs.counts[:, 1], data.n_label)
        log_alpha = self._log_alpha(
            np.r_[log_fisher_of(*singles.counts.T, data.n_label), log_p], data.n_items - len(kept)
        )
        self.n_candidates_ = len(singles) + len(pairs)
        search = Search(
            small,
            codes,
            columns,
            singles,
            pairs.take(np.flatnonzero(log_p <= log_alpha)),
            numbers,
            depth,
            log_alpha=log_alpha,
            min_overlap=self.min_overlap,
            retire=self.retire,
        )
        return search, codes, kept

    def _check_memory(self, data: TransactionSet, kept: int) -> None:
        copies = 2 + 2 * self.n_neighbors
        need = 8 * kept * data.n_words * copies / 1e9
        if need > self.max_memory_gb:
            raise ValueError(
                f"X has {data.n_items:,} items, of which {kept:,} are frequent enough to pass the test; packed over "
                f"{data.n_rows:,} rows they need about {need:.1f} GB, more than max_memory_gb={self.max_memory_gb}; "
                "drop rare items (min_count), lower alpha, or raise max_memory_gb"
            )

    def _log_alpha(self, log_p: np.ndarray, untested: int) -> float:
        if self.alpha == 0:
            return -np.inf
        log_alpha, tests = float(np.log(self.alpha)), len(log_p) + untested
        if self.correction == "bonferroni":
            return log_alpha - float(np.log(tests))
        if self.correction == "bh":
            ordered = np.sort(log_p)
            passing = np.flatnonzero(ordered <= log_alpha + np.log(np.arange(1, len(ordered) + 1) / tests))
            return float(ordered[passing[-1]]) if len(passing) else -np.inf
        return log_alpha

    def _run(self, search: Search) -> None:
        with tqdm(disable=not self.verbose, desc="Premise", unit=" steps") as bar:
            while self.max_patterns is None or len(search.members) < self.max_patterns:
                change = search.step()
                if change is None:
                    break
                new = change.pattern
                self.code_length_ += new.gain
                self.trace_.append(
                    {
                        "step": len(self.trace_) + 1,
                        "origin": new.origin,
                        "pattern": pattern_text(new.clauses, search.data.names),
                        "gain": new.gain,
                        "code_length": self.code_length_,
                        "n_patterns": len(search.members),
                    }
                )
                bar.update()

    def _pattern(self, member: Member, kept: np.ndarray, n_label: tuple[int, int]) -> Pattern:
        clauses = tuple(tuple(int(kept[i]) for i in clause) for clause in member.clauses)
        n0, n1 = (int(c) for c in member.counts)
        return Pattern(clauses, (n0, n1), int(direction(n0, n1, n_label)), member.log_p, member.gain, member.origin)

    # --- use -------------------------------------------------------------------------------------------------------
    def transform(self, X: Any) -> sp.csr_matrix:
        """Which rows hold which pattern: (N, number of patterns) CSR of 0 and 1. Rows as in `fit`, without labels."""
        check_is_fitted(self, "patterns_")
        X = self._rows(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} items; fit saw {self.n_features_in_}")
        held = [_holds(X, p.clauses) for p in self.patterns_]
        return sp.csr_matrix(np.stack(held, axis=1)) if held else sp.csr_matrix((X.shape[0], 0), dtype=np.int8)

    def _rows(self, X: Any) -> sp.csr_matrix:
        if isinstance(X, TransactionSet):
            return X.rows
        if isinstance(X, pd.DataFrame):
            X, names = frame_to_csr(X)
            if names != self.names_:
                raise ValueError(
                    "X's columns and values give other items than fit saw; transform a table cut as in fit"
                )
            return X
        if isinstance(X, list | tuple) and not _numeric(X):
            known = set(self.names_)
            return tokens_to_csr([[t for t in row if t in known] for row in X], self.names_, 1, None)[0]
        return as_binary_csr(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The patterns as text, in the order of `transform`'s columns."""
        check_is_fitted(self, "patterns_")
        return np.array([pattern_text(p.clauses, self.names_) for p in self.patterns_], dtype=object)

    def to_frame(self) -> pd.DataFrame:
        """The patterns as a table, largest gain first: pattern, direction, counts, p, gain in bits, origin."""
        check_is_fitted(self, "patterns_")
        rows = [
            {
                "pattern": text,
                "towards": self.classes_[p.direction],
                "n_0": p.support[0],
                "n_1": p.support[1],
                "p": p.p_text,
                "gain": p.gain,
                "origin": p.origin,
            }
            for text, p in zip(self.get_feature_names_out(), self.patterns_)
        ]
        columns = ["pattern", "towards", "n_0", "n_1", "p", "gain", "origin"]
        return pd.DataFrame(rows, columns=columns).sort_values("gain", ignore_index=True, kind="stable")


def _holds(X: sp.csr_matrix, clauses: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Rows with exactly one item of each clause, int8 (N,)."""
    held = [np.asarray(X[:, list(clause)].sum(axis=1)).ravel() == 1 for clause in clauses]
    return np.logical_and.reduce(held).astype(np.int8)


def _numeric(X: Any) -> bool:
    try:
        return np.asarray(X).ndim == 2 and np.asarray(X).dtype.kind in "biuf"
    except ValueError:  # ragged: token lists
        return False
