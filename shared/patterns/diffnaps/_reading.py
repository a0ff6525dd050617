"""Patterns out of a trained DiffNaps network, and what one does with them: transform, reconstruct, predict."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from shared._checks import check_range
from shared.patterns._patterns import Items
from shared.patterns.diffnaps._rows import row_labels, strict_binary_csr
from shared.patterns.diffnaps._scores import conjunction_matrix


class PatternReader:
    """The half of `DiffNaps` that needs only its `net_` and `classes_`."""

    # --- reading out --------------------------------------------------------------------------------------------
    @torch.no_grad()
    def read_patterns(self, t_e: float, t_c: float) -> PatternReader:
        """Read patterns and their classes from the trained weights at other thresholds (appendix A.2).

        Parameters
        ----------
        t_e, t_c : float
            In [0, 1]; what exceeds them is an item, or an assignment.

        Returns
        -------
        DiffNaps
            Itself, with `patterns_` and its neighbours renewed.
        """
        check_is_fitted(self, "net_")
        check_range("t_e", t_e, 0, 1)
        check_range("t_c", t_c, 0, 1)
        member = (self.net_.weight > t_e).cpu().numpy()
        of_class = (self.net_.head > t_c).cpu().numpy()
        classes_of: dict[Items, np.ndarray] = {}
        for neuron in np.flatnonzero(member.any(1)):
            pattern = tuple(np.flatnonzero(member[neuron]).tolist())
            classes_of[pattern] = classes_of.get(pattern, False) | of_class[:, neuron]
        self.thresholds_ = (t_e, t_c)
        self.all_patterns_: list[Items] = sorted(classes_of)
        assigned = np.array([classes_of[p] for p in self.all_patterns_], dtype=bool)
        self.assigned_ = assigned.reshape(len(self.all_patterns_), len(self.classes_)).T
        self.patterns_: dict[Hashable, list[Items]] = {
            label: [p for p, mine in zip(self.all_patterns_, assigned) if mine]
            for label, assigned in zip(self.classes_.tolist(), self.assigned_)
        }
        self.general_patterns_ = [p for p, some in zip(self.all_patterns_, self.assigned_.any(0)) if not some]
        return self

    def choose_thresholds(self, X: Any, y: Any, t_e: Sequence[float], t_c: Sequence[float]) -> tuple[float, float]:
        """The pair of `t_e` x `t_c` whose thresholded network errs least on X, y (grid search of appendix A.2).

        The error is the number of wrong cells, relative to predicting no ones, plus the share of wrong labels; how the
        paper adds the two is not said. Follow with `read_patterns`.

        Parameters
        ----------
        X : (N, d) array, sparse matrix or data frame
            Rows of 0 and 1.
        y : (N,) labels
            Their classes.
        t_e, t_c : sequences of float
            What to try.

        Returns
        -------
        (float, float)
            The best `t_e` and `t_c`.
        """
        check_is_fitted(self, "net_")
        X = self._check_rows(X)
        labels = row_labels(y, X.shape[0])
        best: tuple[float, float, float] = (math.inf, self.t_e, self.t_c)
        for e in t_e:
            cells = abs(self._thresholded(X, e)[0] - X).sum() / max(X.sum(), 1)
            for c in t_c:
                wrong = (self._vote(X, e, c) != labels).mean()
                best = min(best, (float(cells + wrong), e, c))
        return best[1:]

    # --- using the patterns --------------------------------------------------------------------------------------
    def transform(self, X: Any) -> sparse.csr_matrix:
        """Which rows hold all items of which pattern.

        Parameters
        ----------
        X : (N, d) array, sparse matrix or data frame
            Rows of 0 and 1.

        Returns
        -------
        (N, P) CSR of 0 and 1
            uint8, in the order of `all_patterns_`.
        """
        check_is_fitted(self, "all_patterns_")
        return conjunction_matrix(self._check_rows(X), self.all_patterns_)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The patterns as text, in the order of `transform`'s columns.

        Parameters
        ----------
        input_features : d strings, optional
            Item names; those of the data frame that `fit` saw, else "x0", "x1", …, unless told.

        Returns
        -------
        array of str
            Item names joined by " & ".
        """
        check_is_fitted(self, "all_patterns_")
        names = input_features if input_features is not None else getattr(self, "feature_names_in_", None)
        if names is None:
            names = [f"x{i}" for i in range(self.n_features_in_)]
        if len(names) != self.n_features_in_:
            raise ValueError(f"input_features has {len(names)} names; expected {self.n_features_in_}")
        return np.array([" & ".join(str(names[i]) for i in p) for p in self.all_patterns_], dtype=object)

    def reconstruct(self, X: Any) -> sparse.csr_matrix:
        """Rows as the thresholded network rebuilds them: the union of the patterns that fire.

        Parameters
        ----------
        X : (N, d) array, sparse matrix or data frame
            Rows of 0 and 1.

        Returns
        -------
        (N, d) CSR of 0 and 1
            float32.
        """
        check_is_fitted(self, "net_")
        return self._thresholded(self._check_rows(X), self.thresholds_[0])[0]

    def predict(self, X: Any) -> np.ndarray:
        """The class with most assigned patterns that fire (the first such class on a tie).

        Parameters
        ----------
        X : (N, d) array, sparse matrix or data frame
            Rows of 0 and 1.

        Returns
        -------
        (N,) labels
            Of `classes_`.
        """
        check_is_fitted(self, "net_")
        return self._vote(self._check_rows(X), *self.thresholds_)

    def _thresholded(self, X: sparse.csr_matrix, t_e: float) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """Reconstruction (N, d) and active neurons (N, h), float32 CSR of 0 and 1."""
        weight = sparse.csr_matrix(self.net_.threshold(t_e).cpu().numpy())
        needed = 1 - self.net_.bias.detach().cpu().clamp(max=-1).trunc().numpy()
        counts = (X @ weight.T).tocsr()
        counts.data = (counts.data >= needed[counts.indices]).astype(np.float32)
        counts.eliminate_zeros()
        union = (counts @ weight).tocsr()
        union.data = np.ones_like(union.data)
        return union, counts

    def _vote(self, X: sparse.csr_matrix, t_e: float, t_c: float) -> np.ndarray:
        head = (self.net_.head.detach() > t_c).cpu().numpy().astype(np.float32)
        return self.classes_[np.asarray(self._thresholded(X, t_e)[1] @ head.T).argmax(1)]

    def _check_rows(self, X: Any) -> sparse.csr_matrix:
        X = strict_binary_csr(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} items; fit saw {self.n_features_in_}")
        return X
