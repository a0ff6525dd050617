"""Every kind of input as a binary CSR matrix, and labels as 0 and 1."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp


def encode_labels(y: Any, positive: Hashable | None = None) -> tuple[np.ndarray, tuple]:
    """Labels as int8 0/1 and the two original values (of 0, of 1): in order, unless `positive` names that of 1."""
    values = np.asarray(y)
    if values.ndim != 1:
        raise ValueError(f"y has shape {values.shape}; expected (N,): one label per row")
    if pd.isna(values).any():
        raise ValueError(f"y holds {int(pd.isna(values).sum())} missing labels (NaN or None); every row needs one")
    kinds = pd.unique(pd.Series(values))
    if len(kinds) != 2:
        shown = ", ".join(map(repr, kinds[:5].tolist())) or "none"
        kind = ": only 1 class" if len(kinds) == 1 else ""
        raise ValueError(
            f"y holds {len(kinds)} distinct labels ({shown}){kind}; the search needs both labels, exactly two"
        )
    if positive is None:
        if set(kinds.tolist()) <= {0, 1}:
            return values.astype(np.int8), (0, 1)
        positive = max(kinds.tolist(), key=_in_order)
    if positive not in kinds.tolist():
        raise ValueError(f"positive={positive!r} is not in y; it holds {', '.join(map(repr, kinds.tolist()))}")
    other = next(k for k in kinds.tolist() if k != positive)
    return (values == positive).astype(np.int8), (other, positive)


def _in_order(label: Any) -> tuple[bool, Any]:
    """Numbers before other labels."""
    number = isinstance(label, int | float)
    return (not number, label if number else str(label))


def as_binary_csr(X: Any) -> sp.csr_matrix:
    """Any 2-d matrix as CSR with a one at each non-zero; `ValueError` when it is empty or not finite."""
    X = sp.csr_matrix(X, copy=True) if sp.issparse(X) else np.asarray(X)
    if X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}; expected (N, M). Reshape your data: a single row is X.reshape(1, -1)")
    if 0 in X.shape:
        lack = "0 sample(s)" if X.shape[0] == 0 else "0 feature(s)"
        raise ValueError(f"X is empty (shape {X.shape}): {lack} (shape={X.shape}) while a minimum of 1 is required.")
    if X.dtype.kind == "O":
        X = _numbers(X)
    if X.dtype.kind == "c":
        raise ValueError(f"X has dtype {X.dtype}. Complex data not supported; expected numbers or booleans")
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


def _numbers(X: np.ndarray) -> np.ndarray:
    """An array of objects as floats, None as NaN."""
    try:
        return X.astype(float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"X has dtype object and holds what is no number ({error}); expected numbers or booleans, or a list of "
            "token lists: an argument must be a string or a number"
        ) from None


def tokens_to_csr(
    lists: Sequence[Iterable[str]], vocabulary: Sequence[str] | None, min_count: int
) -> tuple[sp.csr_matrix, list[str]]:
    """Token lists as (CSR, item names); see `TransactionSet.from_token_lists`."""
    sets = []
    for number, tokens in enumerate(lists):
        if isinstance(tokens, str) or not isinstance(tokens, Iterable):
            raise TypeError(f"row {number} is {type(tokens).__name__}; expected a list of tokens")
        sets.append(dict.fromkeys(t for t in tokens if isinstance(t, str) or not is_missing(t)))
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


def is_missing(value: Any) -> bool:
    """Whether a token stands for none, as lists of unequal length are filled up with: None, NaN, NA or NaT."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


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
