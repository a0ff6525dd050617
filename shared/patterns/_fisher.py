"""Fisher's exact test, one-sided towards the label where a pattern has the larger odds, for many patterns at once."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from shared._checks import check_array, check_finite


def direction(n0: np.ndarray, n1: np.ndarray, n_label: tuple[int, int]) -> np.ndarray:
    """The label with the larger odds n_X^l / (n_l - n_X^l); equal odds count as label 1, as in the authors' program."""
    n0 = np.asarray(n0, dtype=float)
    n1 = np.asarray(n1, dtype=float)
    # odds0 > odds1 without dividing by zero: cross-multiplied; both infinite (pattern in every row) is a tie
    return np.where(n0 * (n_label[1] - n1) > n1 * (n_label[0] - n0), 0, 1)


def log_fisher(n0: np.ndarray, n1: np.ndarray, n_label: tuple[int, int]) -> np.ndarray:
    """Natural log of the one-sided p-value: P(at least n_X^d rows of label d among n_X drawn), d the direction.

    Kept as a log, so that it never underflows.

    Parameters
    ----------
    n0, n1 : int arrays of one shape
        Rows with the pattern under label 0 and under label 1.
    n_label : (int, int)
        Rows of each label.

    Returns
    -------
    array of n0's shape
        ln p, at most 0.
    """
    n0 = np.asarray(n0)
    n1 = np.asarray(n1)
    check_finite("n0", n0)
    check_array("n1", n1, n0.shape)
    return log_fisher_of(n0, n1, n_label)


def log_fisher_of(n0: np.ndarray, n1: np.ndarray, n_label: tuple[int, int]) -> np.ndarray:
    """`log_fisher` without checks: for the search, and for no pattern at all."""
    n0, n1 = np.broadcast_arrays(np.asarray(n0, dtype=np.int64), np.asarray(n1, dtype=np.int64))
    shape = n0.shape
    n0, n1 = n0.ravel(), n1.ravel()
    to0 = direction(n0, n1, n_label) == 0
    hits = np.where(to0, n0, n1).astype(float)
    drawn = (n0 + n1).astype(float)
    good = np.where(to0, n_label[0], n_label[1]).astype(float)
    total = float(sum(n_label))

    def choose(n, k):
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    first = choose(good, hits) + choose(total - good, drawn - hits) - choose(total, drawn)
    # The other terms of the tail as products of ratios, largest first; they shrink, since hits is above its mean.
    tail = np.ones_like(first)
    term = np.ones_like(first)
    k = hits.copy()
    active = np.flatnonzero(k < np.minimum(good, drawn))
    while len(active):
        j = k[active]
        step = (good[active] - j) * (drawn[active] - j) / ((j + 1) * (total - good[active] - drawn[active] + j + 1))
        term[active] *= step
        tail[active] += term[active]
        k[active] += 1
        going = (k[active] < np.minimum(good[active], drawn[active])) & (term[active] > 1e-18 * tail[active])
        active = active[going]
    return np.minimum(first + np.log(tail), 0.0).reshape(shape)


def least_support(alpha: float, n_label: tuple[int, int]) -> int:
    """The smallest support that can pass p <= alpha at all: the bound that prunes rare items without loss."""
    total = sum(n_label)
    support = np.arange(1, total + 1, dtype=float)
    best = np.full(total, np.inf)
    for good in n_label:
        possible = support <= good
        log_p = np.where(
            possible,
            gammaln(good + 1)
            - gammaln(np.maximum(good - support, 0) + 1)
            - gammaln(total + 1)
            + gammaln(total - support + 1),
            -np.inf,  # more rows than the label has: the tail is small, don't prune by it
        )
        best = np.minimum(best, log_p)
    passing = np.flatnonzero(best <= np.log(alpha) + 1e-9) if alpha > 0 else []
    return int(passing[0]) + 1 if len(passing) else total + 1
