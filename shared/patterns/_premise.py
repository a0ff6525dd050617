"""Premise: the pattern set that best describes the features of two groups of rows, as a scikit-learn estimator."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import ClassifierTags, Tags
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from shared._checks import check_choice, check_range
from shared.patterns._codes import Clauses, Codes
from shared.patterns._convert import as_binary_csr, encode_labels, tokens_to_csr
from shared.patterns._data import TransactionSet
from shared.patterns._fisher import direction, least_support, log_fisher_of
from shared.patterns._frame import FrameCode
from shared.patterns._neighbours import nearest_as
from shared.patterns._patterns import Pattern, pattern_text
from shared.patterns._search import Member, Search
from shared.patterns._space import SearchSpace, clause_space, conjunction_space

CORRECTIONS = ("none", "bonferroni", "bh")


class Premise(TransformerMixin, BaseEstimator):
    """Label-descriptive patterns by minimum description length (Hedderich, Fischer, Klakow and Vreeken, ICML 2022).

    Finds a short set of patterns (conjunctions of items, or of clauses of mutually exclusive items) that go with one of
    two labels, by greedily shortening the two-part code of the features given the labels. Only patterns whose link to
    the label passes Fisher's exact test are taken. The search has no randomness: the same data give the same patterns.

    Parameters
    ----------
    alpha : float
        Largest p-value of Fisher's one-sided test.
    min_overlap : float
        What share of the rows two clauses must have in common to be joined.
    n_neighbors : int
        How many neighbours (by `item_vectors`) a clause may take; 0 for plain conjunctions.
    clause_max_overlap : float
        What share of a clause's rows may hold two of its items.
    correction : "none", "bonferroni" or "bh"
        None, as the authors' program, or Bonferroni's or Benjamini–Hochberg's over the single clauses and pairs tested.
    max_patterns : int, optional
        Stop at so many patterns.
    positive : hashable, optional
        The label that becomes 1; the larger one (1 of −1 and 1, "wrong" of "right" and "wrong") unless told.
    bins : int
        Quantiles into which a data frame's numeric columns are cut; see `TransactionSet.from_frame`.
    retire : bool
        Leave an item alone for good once its single clause did not pay (as the authors' program).
    max_memory_gb : float
        Largest packed table; a larger one is a `ValueError` with the estimate.
    progress : bool
        Show a progress bar.

    Attributes
    ----------
    patterns_ : list of Pattern
        What was found; an interrupted `fit` keeps the patterns found so far and warns.
    names_ : list of str
        Item names.
    n_features_in_ : int
        Columns of X (items, where X is a TransactionSet or token lists).
    feature_names_in_ : array of str
        A data frame's columns; only after a fit on one.
    classes_ : tuple
        The labels behind 0 and 1.
    baseline_code_length_, code_length_ : float
        Bits without and with patterns.
    n_candidates_ : int
        Single clauses and pairs that were looked at.
    trace_ : list of dict
        One per accepted step.
    interrupted_ : bool
        Whether `fit` was stopped by KeyboardInterrupt.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.01,
        min_overlap: float = 0.3,
        n_neighbors: int = 0,
        clause_max_overlap: float = 0.05,
        correction: str = "none",
        max_patterns: int | None = None,
        positive: Hashable | None = None,
        bins: int = 3,
        retire: bool = True,
        max_memory_gb: float = 4.0,
        progress: bool = False,
    ) -> None:
        self.alpha = alpha
        self.min_overlap = min_overlap
        self.n_neighbors = n_neighbors
        self.clause_max_overlap = clause_max_overlap
        self.correction = correction
        self.max_patterns = max_patterns
        self.positive = positive
        self.bins = bins
        self.retire = retire
        self.max_memory_gb = max_memory_gb
        self.progress = progress

    # --- fit -------------------------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None, *, item_vectors: np.ndarray | None = None, weights: Any = None) -> Premise:
        """Find the patterns of rows X with labels y.

        Parameters
        ----------
        X : TransactionSet (then without y), sparse or dense matrix (N, M), data frame, or list of token lists
            The rows.
        y : (N,) labels of two kinds
            The larger one becomes 1, unless `positive` names it.
        item_vectors : (M, d) array, optional
            One row per item, for `n_neighbors` > 0; NaN rows stand for items without a vector.
        weights : (N,) whole numbers, optional
            How often each row counts.

        Returns
        -------
        Premise
            Itself.

        Raises
        ------
        ValueError
            For labels of one kind only, shapes that don't fit, options out of range, or a table over `max_memory_gb`.
        """
        self._check_parameters(item_vectors)
        data = self._data(X, y, weights)
        self.names_ = data.names
        self.n_features_in_ = X.shape[1] if isinstance(X, pd.DataFrame) else data.n_items
        codes = Codes(data.n_rows, data.n_items, data.n_label)
        kept = self._items_that_can_pass(data)
        self._check_memory(data, len(kept))
        space = self._space(codes, data.with_items(kept), item_vectors)
        search = self._search(space, codes, untested=data.n_items - len(kept))
        self.baseline_code_length_ = float(codes.singles(data.item_counts.sum(0)).sum())
        self.code_length_ = self.baseline_code_length_
        self.trace_ = []
        self.interrupted_ = False
        try:
            self._run(search)
        except KeyboardInterrupt:
            self.interrupted_ = True
            warnings.warn(f"interrupted; keeping the {len(search.members)} patterns found so far", stacklevel=2)
        self.patterns_ = [self._pattern(search, member, kept) for member in search.members]
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
        self._frame = None
        vars(self).pop("feature_names_in_", None)  # of an earlier fit
        if isinstance(X, TransactionSet):
            if y is not None or weights is not None:
                raise ValueError("X is a TransactionSet, which holds labels and weights; leave y and weights out")
            self.classes_ = (0, 1)
            return X
        if y is None:
            raise ValueError(
                "y is missing: Premise requires y to be passed, but the target y is None; expected one label per row"
            )
        _, self.classes_ = encode_labels(y, self.positive)
        options = {"weights": weights, "positive": self.positive}
        if isinstance(X, pd.DataFrame):
            self._frame = FrameCode.fit(X, self.bins)
            if all(isinstance(c, str) for c in X.columns):
                self.feature_names_in_ = X.columns.to_numpy(dtype=object)
            return TransactionSet.from_csr(self._frame.encode(X), y, names=self._frame.names, **options)
        if _token_lists(X):
            return TransactionSet.from_token_lists(X, y, **options)
        return TransactionSet.from_csr(X, y, **options)

    def _items_that_can_pass(self, data: TransactionSet) -> np.ndarray:
        """Numbers of the items that take part.

        An item too rare to pass the test can't be in a conjunction: dropping it changes nothing. With 10 rows of each
        label and alpha = 0.01 that is any item in fewer than six rows, since C(10, 5) / C(20, 5) = 0.016 and
        C(10, 6) / C(20, 6) = 0.005. As one of a clause's items it may still count, so all stay when clauses grow.
        """
        if self.n_neighbors:
            return np.arange(data.n_items)
        total = data.item_counts.sum(0)
        return np.flatnonzero(total >= least_support(self.alpha, data.n_label))

    def _space(self, codes: Codes, data: TransactionSet, vectors: np.ndarray | None) -> SearchSpace:
        if not self.n_neighbors:
            return conjunction_space(codes, data, self.min_overlap)
        vectors = np.asarray(vectors, dtype=float)
        if len(vectors) != data.n_items:
            raise ValueError(f"item_vectors has {len(vectors)} rows for {data.n_items} items; expected one per item")
        neighbours, similarity = nearest_as("item_vectors", vectors, self.n_neighbors, data.names)
        return clause_space(
            codes, data, neighbours, similarity, min_overlap=self.min_overlap, max_overlap=self.clause_max_overlap
        )

    def _search(self, space: SearchSpace, codes: Codes, untested: int) -> Search:
        """The search over what passes Fisher's test; `untested` items were dropped since they could not."""
        n_label = space.data.n_label
        log_p_pairs = log_fisher_of(*space.pairs.counts.T, n_label)
        log_p = np.r_[log_fisher_of(*space.singles.counts.T, n_label), log_p_pairs]
        log_alpha = self._log_alpha(log_p, untested)
        self.n_candidates_ = len(log_p)
        passing = space.with_pairs(np.flatnonzero(log_p_pairs <= log_alpha))
        return Search(passing, codes, log_alpha=log_alpha, min_overlap=self.min_overlap, retire=self.retire)

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
        """The level after correction, for the tests made and those of `untested` items, which none can pass."""
        if self.alpha == 0:
            return -np.inf
        log_alpha = float(np.log(self.alpha))
        tests = len(log_p) + untested
        if self.correction == "bonferroni":
            return log_alpha - float(np.log(tests))
        if self.correction == "bh":
            ordered = np.sort(log_p)
            passing = np.flatnonzero(ordered <= log_alpha + np.log(np.arange(1, len(ordered) + 1) / tests))
            return float(ordered[passing[-1]]) if len(passing) else -np.inf
        return log_alpha

    def _run(self, search: Search) -> None:
        with tqdm(disable=not self.progress, desc="Premise", unit=" steps") as bar:
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

    def _pattern(self, search: Search, member: Member, kept: np.ndarray) -> Pattern:
        clauses = tuple(tuple(int(kept[i]) for i in clause) for clause in member.clauses)
        n0, n1 = (int(c) for c in member.counts)
        towards = int(direction(n0, n1, search.data.n_label))
        return Pattern(clauses, (n0, n1), towards, search.log_p(member), member.gain, member.origin)

    # --- use -------------------------------------------------------------------------------------------------------
    def transform(self, X: Any) -> sp.csr_matrix | np.ndarray:
        """Which rows hold which pattern; a data frame's numeric columns keep the bins of `fit`.

        Parameters
        ----------
        X : as in `fit`
            Rows, without labels.

        Returns
        -------
        (N, number of patterns) of 0 and 1
            CSR in the order of `patterns_`; an array where `set_output` asks for a table.
        """
        check_is_fitted(self, "patterns_")
        X = self._rows(X)
        if X.shape[1] != len(self.names_):
            raise ValueError(
                f"X has {X.shape[1]} features, but Premise is expecting {len(self.names_)} features as input: "
                f"fit saw {len(self.names_)}"
            )
        held = [_rows_with(X, p.clauses) for p in self.patterns_]
        out = sp.csr_matrix(np.stack(held, axis=1)) if held else sp.csr_matrix((X.shape[0], 0), dtype=np.int8)
        container = getattr(self, "_sklearn_output_config", {}).get("transform", get_config()["transform_output"])
        return out if container == "default" else out.toarray()  # scikit-learn makes no tables of sparse matrices

    def _rows(self, X: Any) -> sp.csr_matrix:
        if isinstance(X, TransactionSet):
            return X.rows
        if self._frame is not None:
            if isinstance(X, pd.DataFrame):
                return self._frame.encode(X)
            if getattr(X, "ndim", 0) != 2 or X.shape[1] != self.n_features_in_:
                raise ValueError(f"X must be a table with the {self.n_features_in_} columns of the one that fit saw")
            warnings.warn("X does not have valid feature names, but Premise was fitted with them", stacklevel=3)
            table = pd.DataFrame(X.toarray() if sp.issparse(X) else X)
            return self._frame.encode(table.set_axis([c.name for c in self._frame.columns], axis=1))
        if _token_lists(X):
            known = set(self.names_)
            return tokens_to_csr([[t for t in row if t in known] for row in X], self.names_, 1)[0]
        return as_binary_csr(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The patterns as text, in the order of `transform`'s columns.

        Parameters
        ----------
        input_features : sequence of str, optional
            Names of the items, as a pipeline gives them (of a CountVectorizer, say); of the columns after a fit on a
            data frame, where they must be `feature_names_in_`.

        Returns
        -------
        array of str
            One per pattern.
        """
        check_is_fitted(self, "patterns_")
        names = self.names_
        if input_features is not None:
            given = [str(n) for n in input_features]
            if self._frame is not None:
                if given != [str(c.name) for c in self._frame.columns]:
                    raise ValueError("input_features is not equal to feature_names_in_")
            elif len(given) != len(names):
                raise ValueError(
                    f"input_features should have length equal to number of features ({len(names)}), got {len(given)}"
                )
            else:
                names = given
        return np.array([pattern_text(p.clauses, names) for p in self.patterns_], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.classifier_tags = ClassifierTags(multi_class=False)  # what scikit-learn asks for the labels it may give
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = []  # 0 and 1 whatever came
        return tags

    def to_frame(self, *, input_features: Any = None) -> pd.DataFrame:
        """The patterns as a table, largest gain first: pattern, direction, counts, p, gain in bits, origin.

        Parameters
        ----------
        input_features : sequence of str, optional
            Names of the items, as in `get_feature_names_out`.

        Returns
        -------
        pandas.DataFrame
            A row per pattern.
        """
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
            for text, p in zip(self.get_feature_names_out(input_features), self.patterns_)
        ]
        columns = ["pattern", "towards", "n_0", "n_1", "p", "gain", "origin"]
        return pd.DataFrame(rows, columns=columns).sort_values("gain", ignore_index=True, kind="stable")


def _rows_with(X: sp.csr_matrix, clauses: Clauses) -> np.ndarray:
    """Rows with exactly one item of each clause, int8 (N,)."""
    held = [np.asarray(X[:, list(clause)].sum(axis=1)).ravel() == 1 for clause in clauses]
    return np.logical_and.reduce(held).astype(np.int8)


def _token_lists(X: Any) -> bool:
    """Whether X is a list of token lists, not a matrix as nested lists of numbers."""
    if not isinstance(X, list | tuple):
        return False
    if not len(X) or isinstance(X[0], str):
        return True
    try:
        return np.asarray(X).ndim != 2 or np.asarray(X).dtype.kind not in "biufc"
    except ValueError:  # ragged
        return True
