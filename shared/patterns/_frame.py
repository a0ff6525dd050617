"""A table's columns as items: learned once, so that further tables of the same kind give the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp


@dataclass(frozen=True)
class Column:
    """How one column becomes items.

    name : the column. names : its items. levels : of a column taken by value, the value of each item. edges : of a
    numeric column, the inner bounds of its bins, one fewer than items. A flag has neither: its item is a one.
    """

    name: Any
    names: tuple[str, ...]
    levels: tuple | None = None
    edges: tuple[float, ...] | None = None

    def held(self, values: pd.Series) -> np.ndarray:
        """Which item each row holds, -1 for none: int64 (N,)."""
        missing = values.isna().to_numpy(dtype=bool)
        at = np.full(len(values), -1)
        present = values[~missing]
        if self.levels is not None:
            at[~missing] = pd.Index(self.levels).get_indexer(pd.Index(present.to_numpy()))
        elif self.edges is not None:
            at[~missing] = np.searchsorted(self.edges, self._numbers(present), side="left")
        else:
            at[~missing] = np.where(self._numbers(present) == 1, 0, -1)
        return at

    def _numbers(self, present: pd.Series) -> np.ndarray:
        try:
            numbers = present.to_numpy(dtype=float)
        except (TypeError, ValueError):
            numbers = np.array([np.nan])
        if not np.isfinite(numbers).all():
            raise ValueError(f"X's column {self.name!r} holds what is no finite number, but fit saw numbers or flags")
        return numbers


@dataclass(frozen=True)
class FrameCode:
    """The items of a table, learned by `fit`; `encode` gives further tables the same ones."""

    columns: tuple[Column, ...]

    @classmethod
    def fit(cls, frame: pd.DataFrame, bins: int = 3) -> FrameCode:
        """Learn the items; see `TransactionSet.from_frame`."""
        check_frame(frame)
        return cls(tuple(_column(name, frame[name], bins) for name in frame.columns))

    @property
    def names(self) -> list[str]:
        """Item names, column by column."""
        return [name for column in self.columns for name in column.names]

    def encode(self, frame: pd.DataFrame) -> sp.csr_matrix:
        """A table's items as CSR; a missing entry, and a value that `fit` did not see, gives none."""
        check_frame(frame)
        if lacking := [c.name for c in self.columns if c.name not in frame.columns]:
            raise ValueError(f"X lacks the columns {lacking[:5]} that fit saw")
        if strange := [c for c in frame.columns if c not in {column.name for column in self.columns}]:
            raise ValueError(f"X has the columns {strange[:5]}, which fit did not see")
        start, rows, items = 0, [], []
        for column in self.columns:
            at = column.held(_dense(frame[column.name]))
            here = np.flatnonzero(at >= 0)
            rows.append(here)
            items.append(start + at[here])
            start += len(column.names)
        at, item = np.concatenate(rows), np.concatenate(items)
        X = sp.csr_matrix((np.ones(len(at), dtype=np.int32), (at, item)), shape=(len(frame), start))
        X.sort_indices()
        return X


def check_frame(frame: pd.DataFrame) -> None:
    """`ValueError` for a table without rows or columns, or with two columns of one name."""
    names = pd.Series([str(c) for c in frame.columns], dtype=object)
    if names.duplicated().any():
        twice = names[names.duplicated()].iloc[0]
        raise ValueError(f"names are not distinct: {twice!r} occurs more than once; item and column names must differ")
    if frame.empty:
        raise ValueError(f"frame is empty (shape {frame.shape}); at least one row and one column are needed")


def _dense(values: pd.Series) -> pd.Series:
    return values.sparse.to_dense() if isinstance(values.dtype, pd.SparseDtype) else values


def _column(name: Any, values: pd.Series, bins: int) -> Column:
    values = _dense(values)
    present = values[values.notna()]
    if _is_flag(values, present):
        return Column(name, (str(name),))
    numeric = pd.api.types.is_numeric_dtype(values)
    if numeric and not np.isfinite(present.to_numpy(dtype=float)).all():
        raise ValueError(f"X's column {name!r} holds infinite values; all must be finite")
    if numeric and present.nunique() > bins:
        quantiles = np.quantile(present.to_numpy(dtype=float), np.arange(1, bins) / bins)
        edges = tuple(np.unique(quantiles[quantiles < present.max()]).tolist())
        return Column(name, tuple(_interval_names(name, edges)), edges=edges)
    categories = isinstance(values.dtype, pd.CategoricalDtype)
    levels = list(values.cat.categories) if categories else sorted(present.unique().tolist(), key=_sortable)
    return Column(name, tuple(f"{name}={_shown(v)}" for v in levels), levels=tuple(levels))


def _is_flag(values: pd.Series, present: pd.Series) -> bool:
    """Whether a column says yes or no: booleans, also among missing entries, or the numbers 0 and 1."""
    if pd.api.types.is_bool_dtype(values):
        return True
    if pd.api.types.is_numeric_dtype(values):
        return len(present) > 0 and bool(present.isin((0, 1)).all())
    return len(present) > 0 and all(isinstance(v, bool | np.bool_) for v in present)


def _interval_names(name: Any, edges: Sequence[float]) -> list[str]:
    """`age<=20`, `20<age<=35`, `age>35`, with as many digits as tell the bounds apart, three at least."""
    if not edges:
        return [str(name)]
    texts = next(t for t in map(partial(_rounded, edges), range(3, 18)) if len(set(t)) == len(edges))
    between = [f"{low}<{name}<={high}" for low, high in pairwise(texts)]
    return [f"{name}<={texts[0]}", *between, f"{name}>{texts[-1]}"]


def _rounded(edges: Sequence[float], digits: int) -> list[str]:
    return [f"{e:.{max(digits, len(str(int(abs(e)))))}g}" for e in edges]


def _shown(value: Any) -> str:
    """A value as text; whole floats, which integers with missing entries become, without their decimals."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _sortable(value: Any) -> tuple[bool, Any]:
    number = isinstance(value, int | float)
    return (not number, value if number else str(value))
