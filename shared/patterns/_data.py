"""Labelled transactions: rows that each hold a set of items, and a label 0 or 1 per row."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from shared.patterns._bits import WORD, pack, words_for
from shared.patterns._convert import (
    as_binary_csr,
    check_distinct,
    encode_labels,
    tokens_to_csr,
    whole_weights,
)
from shared.patterns._frame import FrameCode


class TransactionSet:
    """N rows over M items with a binary label per row, kept sparse; columns are packed into bits on demand.

    Bits are laid out label by label: the rows of label 0 fill the first `split` words, those of label 1 the rest, so a
    pattern's support per label is two popcounts. Build it with `from_csr`, `from_token_lists`, `from_frame` or
    `from_dat`.

    Parameters
    ----------
    rows : (N, M) CSR of 0 and 1
        Which row holds which item.
    labels : (N,) int8
        0 or 1 per row.
    names : M strings
        Item names.

    Attributes
    ----------
    n_rows, n_items : int
        N and M.
    n_label : (int, int)
        Rows of each label.
    item_counts : (2, M) int64
        Rows per label that hold the item.
    by_label : (N, M) CSR
        The rows of label 0, then those of label 1.
    """

    def __init__(self, rows: sp.csr_matrix, labels: np.ndarray, names: Sequence[str]) -> None:
        self.rows = rows
        self.labels = labels
        self.names = list(names)
        self.n_rows, self.n_items = rows.shape
        order = np.argsort(labels, kind="stable")
        n0 = int((labels == 0).sum())
        self.n_label = (n0, self.n_rows - n0)
        self.split = words_for(n0)
        self.n_words = self.split + words_for(self.n_rows - n0)
        self._position = np.empty(self.n_rows, dtype=np.int64)  # of each row in the bit layout
        place = np.arange(self.n_rows)
        self._position[order] = np.where(place < n0, place, place - n0 + self.split * WORD)
        self.by_label = rows[order]
        columns = self.by_label.tocsc()
        columns.sort_indices()
        self._indptr = columns.indptr.astype(np.int64)
        tids = columns.indices.astype(np.int64)
        self._bits = np.where(tids < n0, tids, tids - n0 + self.split * WORD)
        cut = np.r_[0, np.cumsum(tids < n0)]
        ones0 = cut[self._indptr[1:]] - cut[self._indptr[:-1]]
        self.item_counts = np.stack([ones0, np.diff(self._indptr) - ones0])

    # --- constructors ----------------------------------------------------------------------------------------------
    @classmethod
    def from_csr(
        cls,
        X: Any,
        y: Any,
        *,
        names: Sequence[str] | None = None,
        weights: Any = None,
        positive: Hashable | None = None,
    ) -> TransactionSet:
        """From a matrix whose non-zero entries say which row holds which item.

        Parameters
        ----------
        X : (N, M) array, sparse matrix or nested lists
            Numbers or booleans, all finite: a missing entry is an error here (a data frame may have them).
        y : (N,) labels of two kinds
            The larger one becomes 1, unless `positive` names it.
        names : M distinct strings, optional
            Item names; "0", "1", … unless told.
        weights : (N,) whole numbers, optional
            How often each row counts.
        positive : hashable, optional
            The label that becomes 1.

        Returns
        -------
        TransactionSet
            The rows with their labels.
        """
        X = as_binary_csr(X)
        labels, _ = encode_labels(y, positive)
        if len(labels) != X.shape[0]:
            raise ValueError(f"y has {len(labels)} labels for {X.shape[0]} rows; expected one per row")
        names = [str(i) for i in range(X.shape[1])] if names is None else [str(n) for n in names]
        if len(names) != X.shape[1]:
            raise ValueError(f"names has {len(names)} entries for {X.shape[1]} items")
        check_distinct(names)
        if weights is not None:
            repeats = whole_weights(weights, len(labels))
            X, labels = X[np.repeat(np.arange(len(labels)), repeats)], np.repeat(labels, repeats)
            encode_labels(labels)  # zero weights may have removed a label
        return cls(X, labels, names)

    @classmethod
    def from_token_lists(
        cls,
        lists: Sequence[Iterable[str]],
        y: Any,
        *,
        vocabulary: Sequence[str] | None = None,
        min_count: int = 1,
        weights: Any = None,
        positive: Hashable | None = None,
    ) -> TransactionSet:
        """From one list of tokens per row; order and repetitions are dropped, empty rows count.

        Parameters
        ----------
        lists : sequence of iterables of str
            The tokens of each row; None and NaN among them, as padding leaves them, are no tokens.
        y : (N,) labels of two kinds
            The larger one becomes 1, unless `positive` names it.
        vocabulary : sequence of str, optional
            The items, in order (all tokens, sorted, unless told); a token outside it is a `ValueError`.
        min_count : int
            Without a vocabulary: the least number of rows that must hold a token, or it is left out.
        weights : (N,) whole numbers, optional
            How often each row counts.
        positive : hashable, optional
            The label that becomes 1.

        Returns
        -------
        TransactionSet
            The rows with their labels.
        """
        X, names = tokens_to_csr(lists, vocabulary, min_count)
        return cls.from_csr(X, y, names=names, weights=weights, positive=positive)

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, y: Any, *, bins: int = 3, weights: Any = None, positive: Hashable | None = None
    ) -> TransactionSet:
        """From a table: flags become items, other columns `column=value` or bins; missing entries give no item.

        A flag is a column of booleans or of the numbers 0 and 1. Numeric columns of more than `bins` values are cut at
        their quantiles into `column<=a`, `a<column<=b`, …, `column>z`.

        Two columns may decide together and yet come back as single items. The code describes the *features*: where two
        items are independent within each label, a pair saves nothing over the two alone, however the label depends on
        both (a value of each that a third of the rows have, 70 % errors where they meet, 10 % elsewhere). Words that
        come together in the text don't have this. No option changes it; add the conjunction as a flag of its own
        (`frame["both"] = (frame.a == 1) & (frame.b == 2)`) where you suspect one.

        Parameters
        ----------
        frame : pandas.DataFrame
            N rows, distinct column names.
        y : (N,) labels of two kinds
            The larger one becomes 1, unless `positive` names it.
        bins : int
            Quantiles into which a numeric column is cut; one of at most `bins` distinct values is taken by value.
        weights : (N,) whole numbers, optional
            How often each row counts.
        positive : hashable, optional
            The label that becomes 1.

        Returns
        -------
        TransactionSet
            The rows with their labels.
        """
        code = FrameCode.fit(frame, bins)
        return cls.from_csr(code.encode(frame), y, names=code.names, weights=weights, positive=positive)

    @classmethod
    def from_dat(
        cls, features: str | Path, labels: str | Path, *, vocabulary: str | Path | None = None
    ) -> TransactionSet:
        """From the files of the authors' program.

        Parameters
        ----------
        features : path
            A row of item numbers per line.
        labels : path
            A label, 0 or 1, per line.
        vocabulary : path, optional
            JSON {token: number}.

        Returns
        -------
        TransactionSet
            The rows with their labels.
        """
        lines = [line.split() for line in Path(features).read_text(encoding="utf-8").split("\n")]
        y = [int(line) for line in Path(labels).read_text(encoding="utf-8").split()]
        ids = [sorted({int(t) for t in line}) for line in lines[: len(y)]]
        names = json.loads(Path(vocabulary).read_text(encoding="utf-8")) if vocabulary else {}
        m = max([*names.values(), *(row[-1] for row in ids if row)], default=-1) + 1
        indptr = np.r_[0, np.cumsum([len(row) for row in ids])]
        X = sp.csr_matrix((np.ones(indptr[-1], dtype=np.int32), [i for row in ids for i in row], indptr), (len(ids), m))
        by_number = {number: token for token, number in names.items()}
        return cls.from_csr(X, y, names=[by_number.get(i, str(i)) for i in range(m)])

    def with_items(self, kept: np.ndarray) -> TransactionSet:
        """The same rows over some of the items.

        Parameters
        ----------
        kept : int array
            Item numbers, in the order they get.

        Returns
        -------
        TransactionSet
            N rows over `len(kept)` items.
        """
        return TransactionSet(self.rows[:, kept], self.labels, [self.names[i] for i in kept])

    # --- columns and rows ------------------------------------------------------------------------------------------
    def words(self, items: Sequence[int] | np.ndarray) -> np.ndarray:
        """The packed columns of some items.

        Parameters
        ----------
        items : sequence of int
            Item numbers.

        Returns
        -------
        (len(items), n_words) uint64
            A bit per row, label by label.
        """
        items = np.asarray(items, dtype=np.int64)
        start = self._indptr[items]
        lengths = self._indptr[items + 1] - start
        offset = np.repeat(start - np.r_[0, np.cumsum(lengths)[:-1]], lengths)
        bits = self._bits[np.arange(lengths.sum()) + offset]
        return pack(np.repeat(np.arange(len(items)), lengths), bits, len(items), self.n_words)

    def row_numbers(self, bits: np.ndarray) -> np.ndarray:
        """The rows behind bit positions of the layout.

        Parameters
        ----------
        bits : int array
            Positions, such as those of the set bits of `words`.

        Returns
        -------
        int array
            Numbers of the rows in the order they were given, sorted.
        """
        back = np.full(self.n_words * WORD, -1)
        back[self._position] = np.arange(self.n_rows)
        return np.sort(back[bits])

    def item(self, name: str) -> int:
        """The number of an item.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        int
            Its place in `names`.

        Raises
        ------
        ValueError
            For a token never seen.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise ValueError(f"token {name!r} is not among the {self.n_items} items") from None

    def __repr__(self) -> str:
        return f"TransactionSet({self.n_rows} rows = {self.n_label[0]} + {self.n_label[1]}, {self.n_items} items)"
