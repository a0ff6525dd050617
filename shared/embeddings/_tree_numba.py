"""The kernels of `_leaves` for a CPU, compiled by numba (installed with openTSNE's and UMAP's companions).

Coordinates come scaled by √c, so that w = t² r with r = 1 / (a² + b² + t²) for a pair at (a, b) whose bandwidths sum to
t: a function of one vector (a, b, t), smooth on the scale of its length. A binary tree over the points gives groups of
all sizes; a group whose radius (in that space) is small against this length acts by its second-order expansion

    Σ_j f(v - v_j) ≈ M (f + ½ Σ_kl C_kl ∂_k ∂_l f),    C the covariance within the group,

about its centroid, where the first order vanishes. The push is -½ ∇ of the mass, its expansion too.
"""

from __future__ import annotations

import numba
import numpy as np

_INNER = {"fastmath": True, "cache": True, "error_model": "numpy"}  # a check for 1/0 would keep loops out of vectors
_OPTIONS = {"parallel": True, "nogil": True, **_INNER}
_BLOCKS = 64  # pieces of work, each with buffers of its own

# A node's row: what a far group gives to the kernel (the first _FAR columns), its squared radius, its box, least width.
_X = 0  # centroid
_Y = 1
_S = 2  # mean width
_SIZE = 3
_XX = 4  # covariances within the group
_XY = 5
_YY = 6
_XT = 7
_YT = 8
_TT = 9
_FAR = 10
_RADIUS = 10
_LOW_X = 11
_LOW_Y = 12
_HIGH_X = 13
_HIGH_Y = 14
_LOW_S = 15

# Constants in single precision: a plain 2 would make the arithmetic double.
_1 = np.float32(1)
_2 = np.float32(2)
_3 = np.float32(3)
_4 = np.float32(4)
_10 = np.float32(10)
_12 = np.float32(12)


@numba.njit(parallel=True, cache=True)
def group(x, y, levels):
    """An order of the points in which the tree's nodes are runs: halved `levels` times along the longer side.

    Node j of level l is [j n / 2^l, (j + 1) n / 2^l), rounded down.
    """
    n = len(x)
    order = np.arange(n)
    for level in range(levels):
        for j in numba.prange(1 << level):
            begin = j * n >> level
            middle = (2 * j + 1) * n >> (level + 1)
            end = (j + 1) * n >> level
            own = order[begin:end]
            xs, ys = x[own], y[own]
            longer = xs if xs.max() - xs.min() >= ys.max() - ys.min() else ys
            order[begin:end] = own[np.argpartition(longer, middle - begin)]
    return order


@numba.njit(**_OPTIONS)
def summarise(x, y, s, levels):
    """Rows of all nodes, (2^(levels + 1), 16) float32, as a heap: node 1 is the root, 2k and 2k + 1 the halves of k."""
    n = len(x)
    nodes = np.zeros((2 << levels, 16), np.float32)
    for k in numba.prange(1, 2 << levels):
        level = 0
        while k >> (level + 1):
            level += 1
        j = k - (1 << level)
        begin, end = j * n >> level, (j + 1) * n >> level
        node, size = nodes[k], end - begin
        mx = 0.0
        my = 0.0
        ms = 0.0
        low_x = x[begin]
        low_y = y[begin]
        low_s = s[begin]
        high_x = x[begin]
        high_y = y[begin]
        for i in range(begin, end):
            mx += x[i]
            my += y[i]
            ms += s[i]
            low_x, high_x = min(low_x, x[i]), max(high_x, x[i])
            low_y, high_y = min(low_y, y[i]), max(high_y, y[i])
            low_s = min(low_s, s[i])
        node[_X] = mx / size
        node[_Y] = my / size
        node[_S] = ms / size
        node[_SIZE] = size
        node[_LOW_X] = low_x
        node[_LOW_Y] = low_y
        node[_LOW_S] = low_s
        node[_HIGH_X], node[_HIGH_Y] = high_x, high_y
        xx = 0.0
        xy = 0.0
        yy = 0.0
        xs = 0.0
        ys = 0.0
        ss = 0.0
        radius = np.float32(0)
        for i in range(begin, end):
            p = x[i] - node[_X]
            q = y[i] - node[_Y]
            r = s[i] - node[_S]
            xx += p * p
            xy += p * q
            yy += q * q
            xs += p * r
            ys += q * r
            ss += r * r
            radius = max(radius, p * p + q * q + r * r)
        node[_XX] = xx / size
        node[_XY] = xy / size
        node[_YY] = yy / size
        node[_XT] = -xs / size  # a falls as x_j grows, t grows with s_j
        node[_YT] = -ys / size
        node[_TT] = ss / size
        node[_RADIUS] = radius
    return nodes


@numba.njit(**_OPTIONS)
def repulsion(x, y, s, nodes, levels, theta):
    """Pushes (n, 2) and masses (n,), float32, on points in the tree's order; see `_leaves.repulsion`.

    The points of a leaf share two lists: far groups, with ρ² <= θ² (a² + b² + t²) for each of them, and near points.
    (The lists are passed whole, with their lengths: of slices the compiler doesn't know that they are contiguous.)
    """
    n, leaves = len(x), 1 << levels
    push, mass = np.empty((n, 2), np.float32), np.empty(n, np.float32)
    blocks = min(leaves, _BLOCKS)
    for block in numba.prange(blocks):
        far, near = np.empty((_FAR, leaves), np.float32), np.empty((3, n), np.float32)
        for leaf in range(block * leaves // blocks, (block + 1) * leaves // blocks):
            n_far, n_near = _meet(x, y, s, nodes, levels, leaf, theta * theta, far, near)
            for i in range(leaf * n >> levels, (leaf + 1) * n >> levels):
                ax, ay, aw = _from_points(x[i], y[i], s[i], near, n_near)
                bx, by, bw = _from_groups(x[i], y[i], s[i], far, n_far)
                push[i, 0] = ax + bx
                push[i, 1] = ay + by
                mass[i] = aw + bw
    return push, mass


@numba.njit(**_INNER)
def _meet(x, y, s, nodes, levels, leaf, limit, far, near):
    """Fill the lists of a leaf; returns their lengths."""
    n, leaves = len(x), 1 << levels
    zero = np.float32(0)
    own = nodes[leaves + leaf]
    stack = np.empty(levels + 2, np.int64)
    stack[0] = 1
    top = 1
    n_far = 0
    n_near = 0
    while top:
        top -= 1
        k = stack[top]
        node = nodes[k]
        dx = max(own[_LOW_X] - node[_X], zero) + max(node[_X] - own[_HIGH_X], zero)
        dy = max(own[_LOW_Y] - node[_Y], zero) + max(node[_Y] - own[_HIGH_Y], zero)
        t = own[_LOW_S] + node[_S]
        if node[_RADIUS] <= limit * (dx * dx + dy * dy + t * t):
            for c in range(_FAR):
                far[c, n_far] = node[c]
            n_far += 1
        elif k >= leaves:
            for i in range((k - leaves) * n >> levels, (k - leaves + 1) * n >> levels):
                near[0, n_near] = x[i]
                near[1, n_near] = y[i]
                near[2, n_near] = s[i]
                n_near += 1
        else:
            stack[top], stack[top + 1] = 2 * k + 1, 2 * k
            top += 2
    return n_far, n_near


@numba.njit(**_INNER)
def _from_points(x, y, s, near, count):
    """Push (two numbers) and mass of the first `count` listed points on one."""
    xs = near[0]
    ys = near[1]
    ss = near[2]
    ax = np.float32(0)
    ay = np.float32(0)
    aw = np.float32(0)
    for j in range(count):
        a = x - xs[j]
        b = y - ys[j]
        t = s + ss[j]
        t = t * t
        r = _1 / (a * a + b * b + t)
        w = t * r
        aw += w
        w *= r
        ax += w * a
        ay += w * b
    return ax, ay, aw


@numba.njit(**_INNER)
def _from_groups(x, y, s, far, count):
    """Push and mass of the first `count` listed groups, to the second order, on one point.

    With E = a² C_aa + 2ab C_ab + b² C_bb and L = a C_at + b C_bt, half the sum of second derivatives of w = t² r is
    t² r² (4 r E - C_aa - C_bb) + 4 t r² L (2w - 1) + r C_tt (1 - w)(1 - 4w).
    """
    xs = far[_X]
    ys = far[_Y]
    ss = far[_S]
    size = far[_SIZE]
    caa = far[_XX]
    cab = far[_XY]
    cbb = far[_YY]
    cat = far[_XT]
    cbt = far[_YT]
    ctt = far[_TT]
    ax = np.float32(0)
    ay = np.float32(0)
    aw = np.float32(0)
    for j in range(count):
        a = x - xs[j]
        b = y - ys[j]
        t = s + ss[j]
        square = t * t
        r = _1 / (a * a + b * b + square)
        w = square * r
        ea, eb = caa[j] * a + cab[j] * b, cab[j] * a + cbb[j] * b
        e, trace = (ea * a + eb * b) * r, caa[j] + cbb[j]
        skew = _4 * t * r * (cat[j] * a + cbt[j] * b)
        weight = size[j] * r
        aw += weight * (square + w * (_4 * e - trace) + skew * (_2 * w - _1) + ctt[j] * (_1 - w) * (_1 - _4 * w))
        along = square + w * (_12 * e - _2 * trace) + skew * _2 * (_3 * w - _1)
        along += ctt[j] * (_1 + w * (_12 * w - _10))
        turn = _2 * t * (_1 - _2 * w)
        weight *= r
        ax += weight * (along * a - _4 * w * ea + turn * cat[j])
        ay += weight * (along * b - _4 * w * eb + turn * cbt[j])
    return ax, ay, aw


@numba.njit(**_OPTIONS)
def attraction(x, y, s, rows, columns, p, most):
    """Σ_j p_ij r_ij (a, b) over CSR edges, at most `most` a row, (n, 2) float32. See `_leaves.attraction`."""
    n = len(x)
    pull = np.empty((n, 2), np.float32)
    blocks = min(n, _BLOCKS)
    for block in numba.prange(blocks):
        xs = np.empty(most, np.float32)
        ys = np.empty(most, np.float32)
        ss = np.empty(most, np.float32)
        for i in range(block * n // blocks, (block + 1) * n // blocks):
            begin, end = rows[i], rows[i + 1]
            for k in range(begin, end):  # gathered first: the arithmetic below is then in vectors
                j = columns[k]
                xs[k - begin] = x[j]
                ys[k - begin] = y[j]
                ss[k - begin] = s[j]
            ax, ay = np.float32(0), np.float32(0)
            weights = p[begin:end]
            for k in range(end - begin):
                a = x[i] - xs[k]
                b = y[i] - ys[k]
                t = s[i] + ss[k]
                w = weights[k] / (a * a + b * b + t * t)
                ax += w * a
                ay += w * b
            pull[i, 0], pull[i, 1] = ax, ay
    return pull


@numba.njit(**_OPTIONS)
def all_pairs(x, y, s, p):
    """Σ_j p_ij r (a, b) and Σ_j w r (a, b), (n, 2), and Σ_j w, (n,), over all points; p : (n, n). All float32."""
    n = len(x)
    pull, push, mass = np.empty((n, 2), np.float32), np.empty((n, 2), np.float32), np.empty(n, np.float32)
    for i in numba.prange(n):
        weights = p[i]
        px = py = qx = qy = total = np.float32(0)
        for j in range(n):
            a = x[i] - x[j]
            b = y[i] - y[j]
            t = s[i] + s[j]
            t = t * t
            r = _1 / (a * a + b * b + t)
            w = t * r
            total += w
            w *= r
            v = weights[j] * r
            px += v * a
            py += v * b
            qx += w * a
            qy += w * b
        pull[i, 0], pull[i, 1], push[i, 0], push[i, 1], mass[i] = px, py, qx, qy, total
    return pull, push, mass


@numba.njit(**_OPTIONS)
def jedi_ratios(x, y, prior, beta, Z):
    """q / (β p' + (1 - β) q) of all pairs, (n, n) float32, for the caller to take logarithms of (numpy's are fast)."""
    n = len(x)
    out = np.empty((n, n), np.float32)
    for i in numba.prange(n):
        for j in range(n):
            a = x[i] - x[j]
            b = y[i] - y[j]
            q = _1 / ((_1 + a * a + b * b) * Z)
            out[i, j] = q / (beta * prior[i, j] + (_1 - beta) * q)
    return out


@numba.njit(**_OPTIONS)
def jedi_pairs(x, y, p, prior, logs, alpha, beta, factor, Z):
    """What JEDI's gradient is made of: Σ_j (factor p - q - g q) w (a, b) and Σ_j q w (a, b), (n, 2); Σ_j g q, (n,)."""
    n = len(x)
    own, common = np.empty((n, 2), np.float32), np.empty((n, 2), np.float32)
    mean = np.empty(n, np.float32)
    for i in numba.prange(n):
        px = py = qx = qy = total = np.float32(0)
        for j in range(n):
            a = x[i] - x[j]
            b = y[i] - y[j]
            w = _1 / (_1 + a * a + b * b)
            q = w / Z
            r = prior[i, j]
            g = alpha * beta * r / (beta * q + (_1 - beta) * r)
            g -= (_1 - alpha) * (logs[i, j] + _1 - (_1 - beta) * q / (beta * r + (_1 - beta) * q))
            gq = g * q
            total += gq
            u = (factor * p[i, j] - q - gq) * w
            v = q * w
            px += u * a
            py += u * b
            qx += v * a
            qy += v * b
        own[i, 0], own[i, 1], common[i, 0], common[i, 1], mean[i] = px, py, qx, qy, total
    return own, common, mean
