"""Attraction over a sparse P, and repulsion for many points: near ones exactly, far groups lumped.

The kernel w_ij = 1 / (1 + γ_ij d²), γ_ij = c / (σ_i + σ_j)², is no function of position alone, so interpolation on a
grid does not apply. But neighbours in a dtSNE map have similar σ; so a group of nearby points acts on far ones much as
their centroid with their mean σ. With s = σ_i + σ_j and r = 1 / (s² + c d²): w = s² r and γ w² = c w r, with one
division a pair.

On a CPU with numba the groups are all nodes of a tree, with second-order terms (`_tree_numba`: O(n log n)); elsewhere
leaves of one size, without (O(n^1.5), made of large tensor operations).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from shared.embeddings._objectives import jedi_objective, kl_gradient

try:  # optional: the CPU kernels in machine code; without it torch, several times slower
    from shared.embeddings import _tree_numba as fast
except ImportError:
    fast = None

_CHUNK = 2**22  # pairs a torch block holds
_TREE_LEAF = 64  # points a leaf of the tree holds at most


def leaf_size(n: int) -> int:
    """Points a leaf: some nine near leaves and n / m far ones are met by each point, so m grows with √n / 3."""
    return max(16, math.ceil(math.sqrt(n) / 3))


def tile(Y: torch.Tensor, m: int) -> torch.Tensor:
    """An order (n,) of the points in which each m consecutive ones lie close: strips by x, each sorted by y."""
    n = len(Y)
    strip = m * math.ceil(math.sqrt(n / m))
    by_x = torch.argsort(Y[:, 0])
    order = []
    whole = n - n % strip
    if whole:
        blocks = by_x[:whole].view(-1, strip)
        order.append(blocks.gather(1, Y[:, 1][blocks].argsort(1)).view(-1))
    rest = by_x[whole:]
    order.append(rest[Y[:, 1][rest].argsort()])
    return torch.cat(order)


def group(Y: torch.Tensor) -> torch.Tensor:
    """An order (n,) of the points in which groups of close ones are runs.

    Any order gives the right repulsion, that of a former map a little slower: a group far from compact is split.
    """
    if not _compiled(Y):
        return tile(Y, leaf_size(len(Y)))
    x, y = _columns(Y)
    return torch.from_numpy(fast.group(x, y, _levels(len(Y))))


def repulsion(
    Y: torch.Tensor, sigma: torch.Tensor, scale: float, theta: float, order: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ_j γ_ij w_ij² (y_i - y_j), (n, 2), and Z = Σ_i≠j w_ij, a scalar.

    Y : (n, 2); sigma : (n,); scale : c above; order : from `group`. A group of radius ρ is far if ρ² <= θ² (d² + 1/γ):
    d is its centroid's distance from the other leaf's box, 1/√γ the kernel's width there; the tree's ρ² also counts
    the spread of σ. θ = 0 is exact.
    """
    order = group(Y) if order is None else order
    y = Y[order]
    s = sigma[order]
    if _compiled(Y):
        root = math.sqrt(scale)
        levels = _levels(len(Y))
        arrays = (*_columns(y * root), s.numpy())
        nodes = fast.summarise(*arrays, levels)
        pushes, masses = fast.repulsion(*arrays, nodes, levels, np.float32(theta))
        push = torch.from_numpy(pushes).to(Y.dtype).mul_(root)
        Z = torch.tensor(masses.sum(dtype=np.float64), dtype=Y.dtype)
    else:
        push, Z = _repulsion_torch(y, s, leaf_size(len(Y)), scale, theta)
    out = torch.empty_like(Y)
    out[order] = push
    return out, Z - len(Y)  # without each point's w_ii = 1


def dense_gradient(
    Y: torch.Tensor, P: torch.Tensor, gamma: torch.Tensor | None, sigma: torch.Tensor | None
) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """(Y, exaggeration) to `kl_gradient` over all pairs of a float32 P, in machine code where that can be had.

    `Y` is like the maps that will come; `gamma` is `density_scale` of `sigma`, both None for t-SNE.
    """
    if not (_compiled(Y) and Y.shape[1] == 2 and Y.dtype == P.dtype == torch.float32):
        return lambda Y, factor: kl_gradient(Y, P, gamma=gamma, exaggeration=factor)
    s = np.full(len(Y), 0.5) if sigma is None else sigma.numpy() / float(sigma.median())
    root = math.sqrt(1.0 if sigma is None else float(np.partition(s, 1)[:2].sum() ** 2))
    s, p = s.astype(np.float32), _normal(P)

    def gradient(Y: torch.Tensor, factor: float) -> torch.Tensor:
        pull, push, mass = fast.all_pairs(*_columns(Y * root), s, p)
        Z = mass.sum(dtype=np.float64) - len(Y)  # without each point's w_ii = 1
        return torch.from_numpy(4 * root * (factor * pull - push / np.float32(Z)))

    return gradient


def jedi_gradient(
    Y: torch.Tensor, P: torch.Tensor, prior: torch.Tensor, alpha: float, beta: float
) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """(Y, exaggeration) to the gradient of `jedi_objective`, in machine code where that can be had."""
    if not (_compiled(Y) and Y.shape[1] == 2 and Y.dtype == P.dtype == torch.float32):
        return lambda Y, factor: jedi_objective(Y, P, prior, alpha, beta, exaggeration=factor)[1]
    p, r = _normal(P), _normal(prior)
    a, b = np.float32(alpha), np.float32(beta)
    half = np.full(len(Y), 0.5, np.float32)

    def gradient(Y: torch.Tensor, factor: float) -> torch.Tensor:
        columns = _columns(Y)
        _, _, mass = fast.all_pairs(*columns, half, p)
        Z = np.float32(mass.sum(dtype=np.float64) - len(Y))
        logs = fast.jedi_ratios(*columns, r, b, Z)
        np.log(logs, out=logs)
        own, common, mean = fast.jedi_pairs(*columns, p, r, logs, a, b, np.float32(factor), Z)
        paired_with_itself = len(Y) * (1 - alpha) * math.log(1 - beta) / Z  # no pair: its p, p' are 0, its w is 1
        return torch.from_numpy(4 * (own + np.float32(mean.sum(dtype=np.float64) - paired_with_itself) * common))

    return gradient


def _normal(P: torch.Tensor) -> np.ndarray:
    """P without its subnormal numbers, on which a processor takes many times as long."""
    return torch.where(P < 1e-30, 0.0, P).numpy()


def _compiled(Y: torch.Tensor) -> bool:
    return fast is not None and Y.device.type == "cpu"


def _columns(Y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(Y[:, 0].numpy()), np.ascontiguousarray(Y[:, 1].numpy())


def _levels(n: int) -> int:
    return max(0, math.ceil(math.log2(n / _TREE_LEAF)))


def _repulsion_torch(
    y: torch.Tensor, s: torch.Tensor, m: int, scale: float, theta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`repulsion` on points in the order of leaves of m, by blocks of pairs."""
    n = len(y)
    count = math.ceil(n / m)
    pad = count * m - n
    weight = torch.cat([torch.ones_like(s), s.new_zeros(pad)]).view(count, m)
    points = torch.cat([y, y[-1:].expand(pad, 2)]).view(count, m, 2)
    widths = torch.cat([s, s[-1:].expand(pad)]).view(count, m)
    size = weight.sum(1)
    centre = (points * weight[..., None]).sum(1) / size[:, None]
    mean_s = (widths * weight).sum(1) / size
    radius = ((points - centre[:, None]).square().sum(2) * weight).max(1).values
    low = points.min(1).values
    high = points.max(1).values
    away = (torch.relu(low[:, None] - centre) + torch.relu(centre - high[:, None])).square().sum(2)  # (leaf, leaf)
    least = widths.min(1).values
    far = radius <= theta**2 * (away + (least[:, None] + least).square() / scale)

    force = torch.zeros_like(points)
    Z = y.new_zeros(())
    step = max(1, _CHUNK // (m * count))
    for start in range(0, count, step):
        rows = slice(start, start + step)
        w, push = _kernel(points[rows], widths[rows], centre, mean_s, size * far[rows][:, None, :], scale)
        force[rows] += push
        Z = Z + (w * weight[rows]).sum()
    target, source = torch.nonzero(~far, as_tuple=True)
    step = max(1, _CHUNK // (m * m))
    for start in range(0, len(target), step):
        a = target[start : start + step]
        b = source[start : start + step]
        w, push = _kernel(points[a], widths[a], points[b], widths[b], weight[b][:, None, :], scale)
        force.index_add_(0, a, push)
        Z = Z + (w * weight[a]).sum()
    return force.view(-1, 2)[:n], Z


def _kernel(
    points: torch.Tensor,
    widths: torch.Tensor,
    sources: torch.Tensor,
    source_widths: torch.Tensor,
    weight: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mass Σ_j w_ij (leaves, m) and push Σ_j γ w² (y_i - y_j) (leaves, m, 2) of sources on the points of leaves."""
    sources = sources if sources.ndim == 3 else sources[None]
    source_widths = source_widths if source_widths.ndim == 2 else source_widths[None]
    d = points[:, :, None] - sources[:, None]
    squared = (widths[:, :, None] + source_widths[:, None]).square()
    r = 1.0 / (squared + scale * d.square().sum(-1))
    w = squared * r * weight
    return w.sum(-1), ((scale * w * r)[..., None] * d).sum(2)


def attraction(
    Y: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, p: torch.Tensor, sigma: torch.Tensor, scale: float
) -> torch.Tensor:
    """Σ_j p_ij γ_ij w_ij (y_i - y_j), (n, 2), over the edges of a sparse P; `rows` are CSR row pointers (n + 1,)."""
    if _compiled(Y):
        root = math.sqrt(scale)
        most = int(rows.diff().max())  # edges of a row
        arrays = (*_columns(Y * root), sigma.numpy(), rows.numpy(), columns.numpy(), p.numpy())
        return torch.from_numpy(fast.attraction(*arrays, most)).mul_(root)
    i = torch.repeat_interleave(torch.arange(len(Y), device=Y.device), rows.diff())
    d = Y[i] - Y[columns]
    pull = p * scale / ((sigma[i] + sigma[columns]).square() + scale * d.square().sum(1))  # γ w = c r
    return torch.zeros_like(Y).index_add_(0, i, pull[:, None] * d)
