"""Rows of 0 and 1 with a class each: checks, mini-batches, and whether a network over them fits into memory."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from scipy import sparse


def strict_binary_csr(X: Any) -> sparse.csr_matrix:
    """A matrix of 0 and 1 (array, sparse, data frame) as CSR float32 (N, d); anything else is a `ValueError`."""
    if isinstance(X, pd.DataFrame):
        X = X.to_numpy()
    X = X if sparse.issparse(X) else np.asarray(X)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"X has shape {X.shape}; expected (N, d) with at least one row and one column")
    if X.dtype.kind not in "biuf":
        raise TypeError(f"X has dtype {X.dtype}; expected 0 and 1 as booleans or numbers")
    values = X.data if sparse.issparse(X) else X
    odd = values[(values != 0) & (values != 1)]
    if odd.size:
        raise ValueError(
            f"X holds {odd.flat[0]!r} and {odd.size - 1} more values that are neither 0 nor 1; binarise it"
        )
    X = sparse.csr_matrix(X, dtype=np.float32)
    X.eliminate_zeros()
    return X


def row_labels(y: Any, n_rows: int) -> np.ndarray:
    """Labels (N,) as an array; `ValueError` unless there is one per row, none of them NaN."""
    labels = np.asarray(y)
    if labels.shape != (n_rows,):
        raise ValueError(f"y has shape {labels.shape}; expected ({n_rows},), a label per row of X")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("y holds NaN or infinite labels; every row needs a class")
    return labels


def rows_and_labels(X: Any, y: Any) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Both, checked."""
    X = strict_binary_csr(X)
    return X, row_labels(y, X.shape[0])


def column_names(X: Any) -> np.ndarray | None:
    """A data frame's column names as text; `ValueError` where two are the same."""
    if not isinstance(X, pd.DataFrame):
        return None
    if not X.columns.is_unique:
        twice = X.columns[X.columns.duplicated()][0]
        raise ValueError(f"X has more than one column named {twice!r}; item names must differ")
    return X.columns.astype(str).to_numpy(dtype=object)


def warn_of_constant_items(X: sparse.csr_matrix, names: np.ndarray | None) -> None:
    """Items that nearly every row has would become part of every pattern."""
    support = np.asarray(X.sum(0)).ravel() / X.shape[0]
    common = np.flatnonzero(support > 0.95)
    if len(common):
        shown = ", ".join(str(i if names is None else names[i]) for i in common[:5])
        warnings.warn(
            f"{len(common)} items are in over 95 % of the rows ({shown}{', …' if len(common) > 5 else ''}) and will "
            "become part of every pattern; drop them",
            UserWarning,
            stacklevel=3,
        )


def check_memory(n_features: int, n_hidden: int, device: torch.device, two_moments: bool, size: int) -> None:
    """Weights, sample, and per set of moments a gradient and two moments: all (h, d) of `size` bytes a number."""
    need = size * n_hidden * n_features * (3 + 3 * (1 + two_moments))
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if need > free:
        raise ValueError(
            f"n_hidden={n_hidden} neurons x {n_features:,} items need about {need / 1e9:.1f} GB to train; "
            f"{free / 1e9:.1f} GB are free on {device.type!r}: lower n_hidden, drop rare items, or take another device"
        )


class Batches:
    """Mini-batches (x (B, d), y (B,)) on the device: from a dense copy if that is small, else row by row."""

    DENSE_CELLS = 500_000_000  # one byte each

    def __init__(
        self, X: sparse.csr_matrix, targets: np.ndarray, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._sparse = X
        self._device = device
        self._dtype = dtype
        self._targets = torch.from_numpy(targets).to(device)
        small = X.shape[0] * X.shape[1] <= self.DENSE_CELLS
        self._dense = torch.from_numpy(X.astype(np.uint8).toarray()).to(device) if small else None

    def __getitem__(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.from_numpy(rows).to(self._device)
        if self._dense is None:
            return torch.from_numpy(self._sparse[rows].toarray()).to(self._device, self._dtype), self._targets[index]
        return self._dense[index].to(self._dtype), self._targets[index]
