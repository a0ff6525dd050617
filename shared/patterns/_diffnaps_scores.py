"""How good class-specific patterns are: against planted ones, and against labels where no truth is known."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from shared.patterns._metrics import soft_f1

Pattern = Sequence[int]


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


def holds(X: Any, patterns: Sequence[Pattern]) -> sparse.csr_matrix:
    """Which rows hold all items of which pattern: (N, P) CSR of 0 and 1 (uint8). The empty pattern is in every row."""
    X = strict_binary_csr(X)
    lengths = np.array([len(p) for p in patterns], dtype=int)
    items = np.fromiter((i for p in patterns for i in p), dtype=int, count=lengths.sum())
    if items.size and not 0 <= items.min() <= items.max() < X.shape[1]:
        raise ValueError(
            f"patterns name item {items.max() if items.max() >= X.shape[1] else items.min()}; "
            f"X has items 0 to {X.shape[1] - 1}"
        )
    member = sparse.csr_matrix(
        (np.ones(len(items), dtype=np.float32), (items, np.repeat(np.arange(len(patterns)), lengths))),
        shape=(X.shape[1], len(patterns)),
    )
    counts = (X @ member).tocsr()
    counts.data = (counts.data == lengths[counts.indices]).astype(np.float32)
    counts.eliminate_zeros()
    held = counts.astype(np.uint8)
    if (lengths == 0).any():
        held = held.tolil()
        held[:, np.flatnonzero(lengths == 0)] = 1
        held = held.tocsr()
    return held


class SoftF1(NamedTuple):
    """Soft precision, recall and F1, averaged over the classes; `per_class` holds the F1 of each."""

    precision: float
    recall: float
    f1: float
    per_class: dict[Hashable, float]


def soft_f1_by_class(
    found: Mapping[Hashable, Sequence[Pattern]], truth: Mapping[Hashable, Sequence[Pattern]]
) -> SoftF1:
    """Soft F1 of found against true patterns of each class (appendix A.4), averaged over the true classes.

    Precision is the mean over found patterns of the best Jaccard similarity with a true one of the same class, recall
    the mean over true patterns of the best with a found one. A class without found patterns scores 0.
    """
    scores = {label: soft_f1(found.get(label, ()), true) for label, true in truth.items()}
    mean = np.mean([(s.precision, s.recall, s.f1) for s in scores.values()], axis=0)
    return SoftF1(*mean.tolist(), {label: float(s.f1) for label, s in scores.items()})


class CoverageCurve(NamedTuple):
    """Thresholds (T,) on P(class | pattern), mean fraction (T,) of a class' rows covered, and the mean of it, `auc`."""

    threshold: np.ndarray
    coverage: np.ndarray
    auc: float


def coverage_curve(patterns: Mapping[Hashable, Sequence[Pattern]], X: Any, y: Any, points: int = 21) -> CoverageCurve:
    """How much of each class its patterns cover, against how specific they must be (appendix A.5).

    At threshold q a class' patterns with P(class | pattern) > q count, among those above 1/K + 0.1; the coverage is the
    fraction of the class' rows that hold at least one, averaged over the K classes. The area is the mean over `points`
    evenly spaced thresholds in [0, 1], as in the authors' program.
    """
    X, y = strict_binary_csr(X), np.asarray(y)
    classes = np.unique(y)
    grid = np.linspace(0, 1, points)
    coverage = np.zeros((len(classes), points))
    for k, label in enumerate(classes.tolist()):
        held = holds(X, patterns.get(label, ())).tocsc()
        mine = y == label
        support = np.asarray(held.sum(0), dtype=float).ravel()
        share = np.divide(np.asarray(held[mine].sum(0)).ravel(), support, out=np.zeros(len(support)), where=support > 0)
        best = np.zeros(mine.sum())  # the most specific pattern that each row of the class holds
        for pattern in np.flatnonzero(share > 1 / len(classes) + 0.1):
            rows = held[mine][:, pattern].toarray().ravel() > 0
            best[rows] = np.maximum(best[rows], share[pattern])
        coverage[k] = (best[:, None] > grid).mean(0)
    mean = coverage.mean(0)
    return CoverageCurve(grid, mean, float(mean.mean()))


def pattern_table(
    patterns: Mapping[Hashable, Sequence[Pattern]], X: Any, y: Any, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row per class and pattern, the most telling first.

    Columns: class, pattern (item names joined by " & "), length, support_in (fraction of the class' rows that hold it),
    support_out (of the others'), p_class = P(class | pattern), log_odds = ln(support_in / support_out): inf where
    nobody else has it, NaN where nobody has it.
    """
    X, y = strict_binary_csr(X), np.asarray(y)
    names = [f"x{i}" for i in range(X.shape[1])] if names is None else list(map(str, names))
    rows = []
    for label, mined in patterns.items():
        held = holds(X, mined)
        mine = y == label
        inside = np.asarray(held[mine].sum(0)).ravel().astype(float)
        outside = np.asarray(held[~mine].sum(0)).ravel().astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            support_in, support_out = inside / mine.sum(), outside / (~mine).sum()
            columns = (support_in, support_out, inside / (inside + outside), np.log(support_in / support_out))
        for pattern, numbers in zip(mined, zip(*columns)):
            rows.append((label, " & ".join(names[i] for i in pattern), len(pattern), *numbers))
    columns = ["class", "pattern", "length", "support_in", "support_out", "p_class", "log_odds"]
    table = pd.DataFrame(rows, columns=columns)
    weight = table["support_in"] - table["support_out"]
    return table.iloc[np.argsort(-weight.to_numpy(), kind="stable")].reset_index(drop=True)


def mean_log_odds(patterns: Mapping[Hashable, Sequence[Pattern]], X: Any, y: Any) -> float:
    """Mean over all patterns of ln P(pattern | class) / P(pattern | other classes), those undefined left out (A.5)."""
    odds = pattern_table(patterns, X, y)["log_odds"].to_numpy(dtype=float)
    finite = odds[np.isfinite(odds)]
    return float(finite.mean()) if finite.size else float("nan")
