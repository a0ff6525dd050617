"""The kernels of `_leaves` for a CPU, compiled by numba (installed with openTSNE's and UMAP's companions)."""

from __future__ import annotations

import numba
import numpy as np

_OPTIONS = {"parallel": True, "fastmath": True, "cache": True, "nogil": True}


@numba.njit(**_OPTIONS)
def repulsion(x, y, s, m, scale, theta):
    """Forces (n, 2) and masses (n,) on points in leaf order; float32 arrays (n,). See `_leaves.repulsion`."""
    n = len(x)
    count = (n + m - 1) // m
    leaf = np.empty((count, 9), np.float32)  # centre x, y, mean s, size, radius², box: low x, low y, high x, high y
    least = np.empty(count, np.float32)
    for a in numba.prange(count):
        begin, end = a * m, min(a * m + m, n)
        leaf[a, 0] = x[begin:end].mean()
        leaf[a, 1] = y[begin:end].mean()
        leaf[a, 2] = s[begin:end].mean()
        leaf[a, 3] = end - begin
        leaf[a, 4] = ((x[begin:end] - leaf[a, 0]) ** 2 + (y[begin:end] - leaf[a, 1]) ** 2).max()
        leaf[a, 5], leaf[a, 7] = x[begin:end].min(), x[begin:end].max()
        leaf[a, 6], leaf[a, 8] = y[begin:end].min(), y[begin:end].max()
        least[a] = s[begin:end].min()

    ones = np.ones(m, np.float32)
    force, mass = np.zeros((n, 2), np.float32), np.zeros(n, np.float64)
    for a in numba.prange(count):
        fx, fy, fs, fw = (
            np.empty(count, np.float32),
            np.empty(count, np.float32),
            np.empty(count, np.float32),
            np.empty(count, np.float32),
        )
        near = np.empty(count, np.int64)
        n_far, n_near = 0, 0
        for b in range(count):
            dx = max(leaf[a, 5] - leaf[b, 0], np.float32(0)) + max(leaf[b, 0] - leaf[a, 7], np.float32(0))
            dy = max(leaf[a, 6] - leaf[b, 1], np.float32(0)) + max(leaf[b, 1] - leaf[a, 8], np.float32(0))
            width = (least[a] + least[b]) ** 2 / scale
            if leaf[b, 4] <= theta * theta * (dx * dx + dy * dy + width):
                fx[n_far], fy[n_far], fs[n_far], fw[n_far] = leaf[b, 0], leaf[b, 1], leaf[b, 2], leaf[b, 3]
                n_far += 1
            else:
                near[n_near] = b
                n_near += 1
        for i in range(a * m, min(a * m + m, n)):
            ax, ay, aw = _push(x[i], y[i], s[i], fx[:n_far], fy[:n_far], fs[:n_far], fw[:n_far], scale)
            for k in range(n_near):
                begin, end = near[k] * m, min(near[k] * m + m, n)
                bx, by, bw = _push(x[i], y[i], s[i], x[begin:end], y[begin:end], s[begin:end], ones, scale)
                ax += bx
                ay += by
                aw += bw
            force[i, 0], force[i, 1], mass[i] = ax, ay, aw
    return force, mass


@numba.njit(fastmath=True, cache=True, inline="always")
def _push(x, y, s, xs, ys, ss, weights, scale):
    ax, ay, aw = np.float32(0), np.float32(0), np.float32(0)
    for j in range(len(xs)):
        dx, dy, t = x - xs[j], y - ys[j], s + ss[j]
        t = t * t
        r = np.float32(1) / (t + scale * (dx * dx + dy * dy))
        w = weights[j] * t * r
        aw += w
        w *= scale * r
        ax += w * dx
        ay += w * dy
    return ax, ay, aw


@numba.njit(**_OPTIONS)
def attraction(Y, rows, columns, p, s, scale):
    """Σ_j p_ij γ_ij w_ij (y_i - y_j) over CSR edges, (n, 2) float32. See `_leaves.attraction`."""
    out = np.empty_like(Y)
    for i in numba.prange(len(Y)):
        x, y, si = Y[i, 0], Y[i, 1], s[i]
        ax, ay = np.float32(0), np.float32(0)
        for k in range(rows[i], rows[i + 1]):
            j = columns[k]
            dx, dy, t = x - Y[j, 0], y - Y[j, 1], si + s[j]
            w = p[k] * scale / (t * t + scale * (dx * dx + dy * dy))
            ax += w * dx
            ay += w * dy
        out[i, 0], out[i, 1] = ax, ay
    return out
