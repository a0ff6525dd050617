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


def encode_labels(y: Any, positive: Hashable | None = None) -> tuple[np.ndarray, tuple]:
    """Labels as int8 0/1 and the two original values (of 0, of 1); `positive` names the value that becomes 1."""
    values = np.asarray(y)
    if values.ndim != 1:
        raise ValueError(f"y has shape {values.shape}; expected (N,): one label per row")
    kinds = pd.unique(pd.Series(values))
    if len(kinds) != 2:
        shown = ", ".join(map(repr, kinds[:5].tolist())) or "none"
        raise ValueError(f"y holds {len(kinds)} distinct labels ({shown}); the search needs both labels, exactly two")
    if positive is None:
        if not set(kinds.tolist()) <= {0, 1}:
            raise ValueError(
                f"y holds {sorted(map(str, kinds))}, not 0 and 1; name the label that becomes 1: positive=…"
            )
        return values.astype(np.int8), (0, 1)
    if positive not in kinds.tolist():
        raise ValueError(f"positive={positive!r} is not in y; it holds {', '.join(map(repr, kinds.tolist()))}")
    other = next(k for k in kinds.tolist() if k != positive)
    return (values == positive).astype(np.int8), (other, positive)


class TransactionSet:
    """N rows over M items with a binary label per row, kept sparse; columns are packed into bits on demand.

    Bits are laid out label by label: the rows of label 0 fill the first `split` words, those of label 1 the rest, so a
    pattern's support per label is two popcounts. Build it with `from_csr`, `from_token_lists` or `from_frame`.

    Attributes
    ----------
    n_rows, n_items : N and M. n_label : (n_0, n_1). names : item names. labels : (N,) int8.
    item_counts : (2, M) int64, rows per label that hold the item.
    """

    def __init__(self, rows: sp.csr_matrix, labels: np.ndarray, names: Sequence[str]) -> None:
        self.rows, self.labels, self.names = rows, labels, list(names)
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
        names: Sequence[str] | None = None,
        *,
        weights: Any = None,
        positive: Hashable | None = None,
    ) -> TransactionSet:
        """From a sparse or dense matrix (N, M) whose non-zero entries say which row holds which item.

        names : M distinct item names (default "0", "1", …). weights : (N,) whole numbers, how often each row counts.
        """
        X = as_binary_csr(X)
        labels, _ = encode_labels(y, positive)
        if len(labels) != X.shape[0]:
            raise ValueError(f"y has {len(labels)} labels for {X.shape[0]} rows; expected one per row")
        names = [str(i) for i in range(X.shape[1])] if names is None else [str(n) for n in names]
        if len(names) != X.shape[1]:
            raise ValueError(f"names has {len(names)} entries for {X.shape[1]} items")
        _check_distinct(names)
        if weights is not None:
            repeats = _check_weights(weights, len(labels))
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

        vocabulary : the items, in order (default: all tokens, sorted); a token outside it is an error unless it is
        left out by `min_count`, the least number of rows that must hold a token of an unnamed vocabulary.
        """
        return cls.from_csr(*tokens_to_csr(lists, vocabulary, min_count, y), weights=weights, positive=positive)

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, y: Any, *, bins: int = 3, weights: Any = None, positive: Hashable | None = None
    ) -> TransactionSet:
        """From a table: boolean columns become items, others `column=value`, numeric ones cut into `bins` quantiles.

        A numeric column of at most `bins` distinct values is taken by value. Missing entries give no item.
        """
        X, names = frame_to_csr(frame, bins)
        return cls.from_csr(X, y, names, weights=weights, positive=positive)

    @classmethod
    def from_dat(cls, features: str | Path, labels: str | Path, vocabulary: str | Path | None = None) -> TransactionSet:
        """From the files of the authors' program: a row of item numbers per line, a label per line, {token: number}."""
        lines = [line.split() for line in Path(features).read_text(encoding="utf-8").split("\n")]
        y = [int(line) for line in Path(labels).read_text(encoding="utf-8").split()]
        ids = [sorted({int(t) for t in line}) for line in lines[: len(y)]]
        names = json.loads(Path(vocabulary).read_text(encoding="utf-8")) if vocabulary else {}
        m = max([*names.values(), *(row[-1] for row in ids if row)], default=-1) + 1
        indptr = np.r_[0, np.cumsum([len(row) for row in ids])]
        X = sp.csr_matrix((np.ones(indptr[-1], dtype=np.int32), [i for row in ids for i in row], indptr), (len(ids), m))
        by_number = {number: token for token, number in names.items()}
        return cls.from_csr(X, y, [by_number.get(i, str(i)) for i in range(m)])

    # --- columns and rows ------------------------------------------------------------------------------------------
    def words(self, items: Sequence[int] | np.ndarray) -> np.ndarray:
        """The packed columns of `items`: (len(items), n_words) uint64."""
        items = np.asarray(items, dtype=np.int64)
        start, stop = self._indptr[items], self._indptr[items + 1]
        lengths = stop - start
        offset = np.repeat(start - np.r_[0, np.cumsum(lengths)[:-1]], lengths)
        bits = self._bits[np.arange(lengths.sum()) + offset]
        return pack(np.repeat(np.arange(len(items)), lengths), bits, len(items), self.n_words)

    def row_numbers(self, bits: np.ndarray) -> np.ndarray:
        """The rows, in the order they were given, behind bit positions of the layout; sorted."""
        back = np.full(self.n_words * WORD, -1)
        back[self._position] = np.arange(self.n_rows)
        return np.sort(back[bits])

    def item(self, name: str) -> int:
        """The number of the item called `name`; `ValueError` for a token never seen."""
        try:
            return self.names.index(name)
        except ValueError:
            raise ValueError(f"token {name!r} is not among the {self.n_items} items") from None

    def __repr__(self) -> str:
        return f"TransactionSet({self.n_rows} rows = {self.n_label[0]} + {self.n_label[1]}, {self.n_items} items)"


def as_binary_csr(X: Any) -> sp.csr_matrix:
    """Any 2-d matrix as CSR with a one at each non-zero; `ValueError` when it is empty or not finite."""
    X = sp.csr_matrix(X, copy=True) if sp.issparse(X) else np.asarray(X)
    if X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}; expected (N, M)")
    if 0 in X.shape:
        raise ValueError(f"X is empty (shape {X.shape}); at least one row and one item are needed")
    if not sp.issparse(X):
        if X.dtype.kind not in "biuf":
            raise TypeError(f"X has dtype {X.dtype}; expected numbers or booleans, or a list of token lists")
        if not np.isfinite(X).all():
            raise ValueError("X holds NaN or infinite values; all must be finite")
        X = sp.csr_matrix(X != 0)
    X.sum_duplicates()
    X.eliminate_zeros()
    X.data = np.ones(len(X.data), dtype=np.int32)
    return X.astype(np.int32)


def tokens_to_csr(
    lists: Sequence[Iterable[str]], vocabulary: Sequence[str] | None, min_count: int, y: Any
) -> tuple[sp.csr_matrix, Any, list[str]]:
    """Token lists as (CSR, y, names)."""
    sets = []
    for number, tokens in enumerate(lists):
        if isinstance(tokens, str) or not isinstance(tokens, Iterable):
            raise TypeError(f"row {number} is {type(tokens).__name__}; expected a list of tokens")
        sets.append(dict.fromkeys(tokens))
    if not sets:
        raise ValueError("lists is empty; at least one row is needed")
    if vocabulary is None:
        seen: dict[str, int] = {}
        for row in sets:
            for token in row:
                seen[token] = seen.get(token, 0) + 1
        names = sorted((t for t, c in seen.items() if c >= min_count), key=str)
    else:
        names = list(vocabulary)
        _check_distinct([str(n) for n in names])
    if not names:
        raise ValueError(f"no token occurs in min_count={min_count} rows; the vocabulary is empty")
    index = {name: i for i, name in enumerate(names)}
    ids: list[int] = []
    indptr = [0]
    for number, row in enumerate(sets):
        if vocabulary is not None and (strange := next((t for t in row if t not in index), None)) is not None:
            raise ValueError(f"row {number} holds {strange!r}, a token never seen: it is not in the vocabulary")
        ids.extend(index[t] for t in row if t in index)
        indptr.append(len(ids))
    X = sp.csr_matrix((np.ones(len(ids), dtype=np.int32), ids, indptr), shape=(len(sets), len(names)))
    return X, y, [str(n) for n in names]


def frame_to_csr(frame: pd.DataFrame, bins: int = 3) -> tuple[sp.csr_matrix, list[str]]:
    """A table as (CSR, item names); see `TransactionSet.from_frame`."""
    _check_distinct([str(c) for c in frame.columns])
    if frame.empty:
        raise ValueError(f"frame is empty (shape {frame.shape}); at least one row and one column are needed")
    parts, names = [], []
    for column in frame.columns:
        values = frame[column]
        if pd.api.types.is_bool_dtype(values):
            parts.append(values.to_numpy()[:, None])
            names.append(str(column))
            continue
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > bins:
            values = pd.qcut(values, bins, duplicates="drop")
        dummies = pd.get_dummies(values)
        parts.append(dummies.to_numpy(dtype=bool))
        names.extend(f"{column}={v}" for v in dummies.columns)
    return as_binary_csr(np.concatenate(parts, axis=1)), names


def _check_distinct(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        twice = pd.Series(names)[pd.Series(names).duplicated()].iloc[0]
        raise ValueError(f"names are not distinct: {twice!r} occurs more than once; item and column names must differ")


def _check_weights(weights: Any, n_rows: int) -> np.ndarray:
    weights = np.asarray(weights)
    if weights.shape != (n_rows,):
        raise ValueError(f"weights has shape {weights.shape}; expected ({n_rows},): one per row")
    if weights.dtype.kind not in "biuf" or (weights != np.floor(weights)).any() or (weights < 0).any():
        raise ValueError("weights must be whole numbers >= 0: how often each row counts")
    return weights.astype(np.int64)
