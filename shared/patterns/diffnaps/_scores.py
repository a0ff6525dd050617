"""How good class-specific patterns are: against planted ones, and against labels where no truth is known."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from shared._checks import check_range
from shared.patterns._metrics import soft_f1
from shared.patterns._patterns import ClassPatterns, Items
from shared.patterns.diffnaps._rows import rows_and_labels, strict_binary_csr


def conjunction_matrix(X: Any, patterns: Sequence[Items]) -> sparse.csr_matrix:
    """Which rows hold all items of which pattern.

    Parameters
    ----------
    X : (N, d) array, sparse matrix or data frame
        Rows of 0 and 1.
    patterns : sequence of P tuples of int
        Item numbers; the empty pattern is in every row.

    Returns
    -------
    (N, P) CSR of 0 and 1
        uint8.
    """
    X = strict_binary_csr(X)
    lengths = np.array([len(p) for p in patterns], dtype=int)
    items = np.fromiter((i for p in patterns for i in p), dtype=int, count=lengths.sum())
    if items.size and not 0 <= items.min() <= items.max() < X.shape[1]:
        strange = items.max() if items.max() >= X.shape[1] else items.min()
        raise ValueError(f"patterns name item {strange}; X has items 0 to {X.shape[1] - 1}")
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
    """Soft precision, recall and F1 of the patterns of several classes.

    Attributes
    ----------
    precision, recall, f1 : float
        Averaged over the classes.
    per_class : dict
        The F1 of each.
    """

    precision: float
    recall: float
    f1: float
    per_class: dict[Hashable, float]


def soft_f1_by_class(found: ClassPatterns, truth: ClassPatterns) -> SoftF1:
    """Soft F1 of found against true patterns of each class (appendix A.4), averaged over the true classes.

    Precision is the mean over found patterns of the best Jaccard similarity with a true one of the same class, recall
    the mean over true patterns of the best with a found one. A class without found patterns scores 0.

    Parameters
    ----------
    found, truth : {class: sequence of tuples of int}
        Item numbers.

    Returns
    -------
    SoftF1
        Means, and the F1 per class.
    """
    scores = {label: soft_f1(found.get(label, ()), true) for label, true in truth.items()}
    mean = np.mean([(s.precision, s.recall, s.f1) for s in scores.values()], axis=0)
    return SoftF1(*mean.tolist(), {label: float(s.f1) for label, s in scores.items()})


class CoverageCurve(NamedTuple):
    """How much of the classes their patterns cover, against how specific they must be.

    Attributes
    ----------
    threshold : (T,) float64
        Thresholds on P(class | pattern).
    coverage : (T,) float64
        Mean fraction of a class' rows covered.
    auc : float
        The mean of `coverage`.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    auc: float


def coverage_curve(patterns: ClassPatterns, X: Any, y: Any, *, points: int = 21) -> CoverageCurve:
    """How much of each class its patterns cover, against how specific they must be (appendix A.5).

    At threshold q a class' patterns with P(class | pattern) > q count, among those above 1/K + 0.1; the coverage is the
    fraction of the class' rows that hold at least one, averaged over the K classes.

    Parameters
    ----------
    patterns : {class: sequence of tuples of int}
        Item numbers.
    X : (N, d) array, sparse matrix or data frame
        Rows of 0 and 1.
    y : (N,) labels
        A class per row.
    points : int
        Evenly spaced thresholds in [0, 1], over which the area is the mean, as in the authors' program.

    Returns
    -------
    CoverageCurve
        The curve and its area.
    """
    X, y = rows_and_labels(X, y)
    check_range("points", points, 1)
    classes = np.unique(y)
    grid = np.linspace(0, 1, points)
    coverage = np.zeros((len(classes), points))
    for k, label in enumerate(classes.tolist()):
        held = conjunction_matrix(X, patterns.get(label, ())).tocsc()
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


def pattern_table(patterns: ClassPatterns, X: Any, y: Any, *, names: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per class and pattern, the most telling first.

    Parameters
    ----------
    patterns : {class: sequence of tuples of int}
        Item numbers.
    X : (N, d) array, sparse matrix or data frame
        Rows of 0 and 1.
    y : (N,) labels
        A class per row.
    names : d strings, optional
        Item names; "x0", "x1", … unless told.

    Returns
    -------
    pandas.DataFrame
        Columns class, pattern (item names joined by " & "), length, support_in (fraction of the class' rows that hold
        it), support_out (of the others'), p_class = P(class | pattern), log_odds = ln(support_in / support_out): inf
        where nobody else has it, NaN where nobody has it.
    """
    X, y = rows_and_labels(X, y)
    names = [f"x{i}" for i in range(X.shape[1])] if names is None else list(map(str, names))
    rows = []
    for label, mined in patterns.items():
        held = conjunction_matrix(X, mined)
        mine = y == label
        inside = np.asarray(held[mine].sum(0)).ravel().astype(float)
        outside = np.asarray(held[~mine].sum(0)).ravel().astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            support_in = inside / mine.sum()
            support_out = outside / (~mine).sum()
            p_class = inside / (inside + outside)
            odds = np.log(support_in / support_out)
        for pattern, *numbers in zip(mined, support_in, support_out, p_class, odds):
            rows.append((label, " & ".join(names[i] for i in pattern), len(pattern), *numbers))
    columns = ["class", "pattern", "length", "support_in", "support_out", "p_class", "log_odds"]
    table = pd.DataFrame(rows, columns=columns)
    weight = table["support_in"] - table["support_out"]
    return table.iloc[np.argsort(-weight.to_numpy(), kind="stable")].reset_index(drop=True)


def mean_log_odds(patterns: ClassPatterns, X: Any, y: Any) -> float:
    """Mean over all patterns of ln P(pattern | class) / P(pattern | other classes) (appendix A.5).

    Parameters
    ----------
    patterns : {class: sequence of tuples of int}
        Item numbers.
    X : (N, d) array, sparse matrix or data frame
        Rows of 0 and 1.
    y : (N,) labels
        A class per row.

    Returns
    -------
    float
        Patterns for which it is undefined are left out; NaN without any other.
    """
    odds = pattern_table(patterns, X, y)["log_odds"].to_numpy(dtype=float)
    finite = odds[np.isfinite(odds)]
    return float(finite.mean()) if finite.size else float("nan")
