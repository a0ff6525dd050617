"""New points in a map that stays as it is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shared.embeddings._affinities import bandwidths

_PAIRS = 2**22  # of new and reference points at a time
_GROW, _SHRINK = 1.3, 0.5


def place(
    D: np.ndarray,
    Y: np.ndarray,
    sigma: np.ndarray | None,
    perplexity: float,
    max_iter: int,
    device: str | torch.device,
) -> np.ndarray:
    """Where points at distances D (m, n) from the reference belong in its map Y (n, c).

    Each is placed alone, so that others that come with it play no part: at the least KL(p‖q) over the reference, with
    q_j ∝ 1 / (1 + γ_j d_j²) and dtSNE's γ_j = c / (σ + σ_j)² (σ None: t-SNE, γ = 1). It starts at the reference's mean
    under p and descends by gradients with a step size of its own, halved where the loss would rise.
    """
    rows = max(1, _PAIRS // D.shape[1])
    at = torch.as_tensor(Y, dtype=torch.float64, device=device)
    own = None if sigma is None else torch.as_tensor(sigma, dtype=torch.float64, device=device)
    parts = [torch.as_tensor(D[i : i + rows], device=device) for i in range(0, len(D), rows)]
    return torch.cat([_placed(part.square(), at, own, perplexity, max_iter) for part in parts]).cpu().numpy()


def _placed(squared: Tensor, Y: Tensor, sigma: Tensor | None, perplexity: float, max_iter: int) -> Tensor:
    width = bandwidths(squared, perplexity)[:, None]
    gamma = torch.ones_like(squared)
    if sigma is not None:
        densest = torch.topk(sigma, 2, largest=False).values.sum()
        gamma = (densest / (width + sigma)).square()
        width = (width + sigma) / 2
    P = torch.softmax(-squared / (2 * width.square()), 1)
    y = P @ Y
    step = torch.full((len(y), 1), 1.0, dtype=y.dtype, device=y.device)
    loss, slope = _loss_and_slope(y, Y, P, gamma)
    for _ in range(max_iter):
        tried = y - step * slope
        new, steeper = _loss_and_slope(tried, Y, P, gamma)
        better = (new < loss)[:, None]
        y = torch.where(better, tried, y)
        slope = torch.where(better, steeper, slope)
        loss = torch.minimum(loss, new)
        step = step * torch.where(better, _GROW, _SHRINK)
    return y


def _loss_and_slope(y: Tensor, Y: Tensor, P: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """−Σ_j p_j log q_j of each point (m,), and its gradient Σ_j 2 (p_j − q_j) γ_j w_j (y − y_j), (m, c)."""
    w = 1 / (1 + gamma * torch.cdist(y, Y).square())
    Z = w.sum(1, keepdim=True)
    pull = 2 * (P - w / Z) * gamma * w
    return torch.log(Z)[:, 0] - (P * torch.log(w)).sum(1), pull.sum(1, keepdim=True) * y - pull @ Y
