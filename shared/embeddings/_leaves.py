"""Repulsion for many points: near leaves exactly, far leaves as one point each (a one-level Barnes-Hut scheme).

The kernel w_ij = 1 / (1 + γ_ij d²), γ_ij = c / (σ_i + σ_j)², is no function of position alone, so interpolation on a
grid does not apply. But neighbours in a dtSNE map have similar σ; so a leaf of nearby points acts on far ones as their
centroid with their mean σ. With s = σ_i + σ_j and r = 1 / (s² + c d²): w = s² r, γ w² = c w r, one division a pair.
"""

from __future__ import annotations

import math

import numpy as np
import torch

try:  # optional: the CPU kernels in machine code; without it the same in torch, several times slower
    from shared.embeddings import _leaves_numba as fast
except ImportError:
    fast = None

_CHUNK = 2**22  # pairs a torch block holds


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


def repulsion(Y: torch.Tensor, sigma: torch.Tensor, scale: float, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ_j γ_ij w_ij² (y_i - y_j), (n, 2), and Z = Σ_i≠j w_ij, a scalar.

    Y : (n, 2); sigma : (n,); scale : c above. A leaf of radius ρ is far if ρ² <= θ² (d² + 1/γ): d is its centroid's
    distance from the other leaf's box, 1/√γ the kernel's width there. θ = 0 is exact.
    """
    order = tile(Y, m := leaf_size(len(Y)))
    y, s = Y[order], sigma[order]
    if fast is not None and Y.device.type == "cpu":
        arrays = np.ascontiguousarray(y[:, 0].numpy()), np.ascontiguousarray(y[:, 1].numpy()), s.numpy()
        force, mass = fast.repulsion(*arrays, m, np.float32(scale), np.float32(theta))
        force, Z = torch.from_numpy(force).to(Y.dtype), torch.tensor(mass.sum(), dtype=Y.dtype)
    else:
        force, Z = _repulsion_torch(y, s, m, scale, theta)
    out = torch.empty_like(Y)
    out[order] = force
    return out, Z - len(Y)  # without each point's w_ii = 1


def _repulsion_torch(y, s, m, scale, theta):
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
    low, high = points.min(1).values, points.max(1).values
    away = (torch.relu(low[:, None] - centre) + torch.relu(centre - high[:, None])).square().sum(2)  # (leaf, leaf)
    least = widths.min(1).values
    far = radius <= theta**2 * (away + (least[:, None] + least).square() / scale)

    force, Z = torch.zeros_like(points), y.new_zeros(())
    step = max(1, _CHUNK // (m * count))
    for start in range(0, count, step):
        rows = slice(start, start + step)
        w, push = _kernel(points[rows], widths[rows], centre, mean_s, size * far[rows][:, None, :], scale)
        force[rows] += push
        Z = Z + (w * weight[rows]).sum()
    target, source = torch.nonzero(~far, as_tuple=True)
    step = max(1, _CHUNK // (m * m))
    for start in range(0, len(target), step):
        a, b = target[start : start + step], source[start : start + step]
        w, push = _kernel(points[a], widths[a], points[b], widths[b], weight[b][:, None, :], scale)
        force.index_add_(0, a, push)
        Z = Z + (w * weight[a]).sum()
    return force.view(-1, 2)[:n], Z


def _kernel(points, widths, sources, source_widths, weight, scale):
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
    if fast is not None and Y.device.type == "cpu":
        return torch.from_numpy(
            fast.attraction(Y.numpy(), rows.numpy(), columns.numpy(), p.numpy(), sigma.numpy(), np.float32(scale))
        )
    i = torch.repeat_interleave(torch.arange(len(Y), device=Y.device), rows.diff())
    d = Y[i] - Y[columns]
    pull = p * scale / ((sigma[i] + sigma[columns]).square() + scale * d.square().sum(1))  # γ w = c r
    return torch.zeros_like(Y).index_add_(0, i, pull[:, None] * d)
