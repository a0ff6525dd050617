"""Every kind of input as a binary CSR matrix, and labels as 0 and 1."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp


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


def as_binary_csr(X: Any) -> sp.csr_matrix:
    """Any 2-d matrix as CSR with a one at each non-zero; `ValueError` when it is empty or not finite."""
    X = sp.csr_matrix(X, copy=True) if sp.issparse(X) else np.asarray(X)
    if X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}; expected (N, M)")
    if 0 in X.shape:
        raise ValueError(f"X is empty (shape {X.shape}); at least one row and one item are needed")
    if X.dtype.kind not in "biuf":
        raise TypeError(f"X has dtype {X.dtype}; expected numbers or booleans, or a list of token lists")
    if not np.isfinite(X.data if sp.issparse(X) else X).all():
        raise ValueError("X holds NaN or infinite values; all must be finite")
    if not sp.issparse(X):
        X = sp.csr_matrix(X != 0)
    X.sum_duplicates()
    X.eliminate_zeros()
    X.data = np.ones(len(X.data), dtype=np.int32)
    return X.astype(np.int32)


def tokens_to_csr(
    lists: Sequence[Iterable[str]], vocabulary: Sequence[str] | None, min_count: int
) -> tuple[sp.csr_matrix, list[str]]:
    """Token lists as (CSR, item names); see `TransactionSet.from_token_lists`."""
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
        check_distinct([str(n) for n in names])
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
    return X, [str(n) for n in names]


def frame_to_csr(frame: pd.DataFrame, bins: int = 3) -> tuple[sp.csr_matrix, list[str]]:
    """A table as (CSR, item names); see `TransactionSet.from_frame`."""
    check_distinct([str(c) for c in frame.columns])
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


def check_distinct(names: Sequence[str]) -> None:
    """`ValueError` that names one of several equal names."""
    if len(set(names)) != len(names):
        twice = pd.Series(names)[pd.Series(names).duplicated()].iloc[0]
        raise ValueError(f"names are not distinct: {twice!r} occurs more than once; item and column names must differ")


def whole_weights(weights: Any, n_rows: int) -> np.ndarray:
    """How often each row counts, int64; `ValueError` unless whole numbers >= 0, one per row."""
    weights = np.asarray(weights)
    if weights.shape != (n_rows,):
        raise ValueError(f"weights has shape {weights.shape}; expected ({n_rows},): one per row")
    if weights.dtype.kind not in "biuf" or (weights != np.floor(weights)).any() or (weights < 0).any():
        raise ValueError("weights must be whole numbers >= 0: how often each row counts")
    return weights.astype(np.int64)
