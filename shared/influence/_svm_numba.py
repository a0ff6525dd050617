"""Sequential dual descent for the multi-class SVM, compiled by numba; see `_svm` for the mathematics."""

from __future__ import annotations

import numba
import numpy as np

_OPTIONS = {"cache": True, "nogil": True, "fastmath": {"reassoc", "contract"}}  # sums may be reordered: SIMD


@numba.njit(**_OPTIONS)
def descend(F, y, squares, C, tol, max_epochs, seed):
    """P (N, K), W (K, D), epochs run, largest violation of the last full sweep; F (N, D) and squares (N,) float64."""
    N, D = F.shape
    K = y.max() + 1
    P = np.zeros((N, K))
    for i in range(N):
        P[i, y[i]] = C
    W = np.zeros((K, D))
    G, d, p = np.empty(K), np.empty(K), np.empty(K)
    order = np.arange(N)
    active = N
    epoch = 0
    worst = np.inf
    state = np.uint64(seed) * np.uint64(2) + np.uint64(1)
    while epoch < max_epochs:
        epoch += 1
        for k in range(active - 1, 0, -1):  # Fisher and Yates over the active points
            state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)  # Knuth's MMIX
            j = np.int64((state >> np.uint64(33)) % np.uint64(k + 1))
            order[k], order[j] = order[j], order[k]
        worst, s = 0.0, 0
        while s < active:
            i = order[s]
            v = _visit(F[i], y[i], squares[i], C, W, P[i], G, d, p)
            worst = max(worst, v)
            if v < 0.1 * tol and active > 1:  # shrink: leave a settled point out until the others are settled too
                active -= 1
                order[s], order[active] = order[active], order[s]
            else:
                s += 1
        if worst < tol:
            if active == N:
                break
            epoch += 1
            worst = _sweep(F, y, squares, C, W, P, G, d, p)  # did the points that were left out stay settled?
            if worst < tol:
                break
            active = N
    return P, W, epoch, worst


@numba.njit(**_OPTIONS)
def _sweep(F, y, squares, C, W, P, G, d, p):
    worst = 0.0
    for i in range(len(F)):
        worst = max(worst, _visit(F[i], y[i], squares[i], C, W, P[i], G, d, p))
    return worst


@numba.njit(**_OPTIONS)
def _visit(f, label, square, C, W, row, G, d, p):
    """Solve one point's subproblem exactly; the violation before it."""
    K, D = W.shape
    if square <= 0.0:
        return 0.0
    low, high = np.inf, -np.inf  # over classes that may be raised; over all
    for c in range(K):
        g = 0.0 if c == label else 1.0
        for j in range(D):
            g += W[c, j] * f[j]
        G[c] = g
        high = max(high, g)
        if row[c] > 0.0:
            low = min(low, g)
    if high - low <= 1e-14:
        return 0.0
    for c in range(K):  # the minimiser is the projection of p + G / |f|² onto the simplex of size C
        d[c] = row[c] + G[c] / square
    _simplex(d, C, p)
    for c in range(K):
        change = row[c] - p[c]
        if change != 0.0:
            row[c] = p[c]
            for j in range(D):
                W[c, j] += change * f[j]
    return high - low


@numba.njit(**_OPTIONS)
def _simplex(d, C, out):
    """Projection of d (K,) onto {p >= 0, Σ p = C}."""
    ordered = np.sort(d)[::-1]
    total, theta = 0.0, 0.0
    for k in range(len(d)):
        total += ordered[k]
        t = (total - C) / (k + 1)
        if ordered[k] > t:
            theta = t
    for c in range(len(d)):
        out[c] = max(d[c] - theta, 0.0)
