"""Accelerated proximal gradient for many sparse regressions on the same Gram matrix."""

from __future__ import annotations

import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor


def lasso(scatter: Tensor, cross: Tensor, power: Tensor, alpha: Tensor, tol: float, max_iter: int) -> Tensor:
    """Minimise ½ wᵀ scatter w − w·cross + alpha |w|₁ per column of `cross` (d, k); `power` (k,) is the mean of y²."""
    step = 1 / torch.linalg.matrix_norm(scatter, 2).clamp(min=torch.finfo(scatter.dtype).tiny)
    W = torch.zeros_like(cross)
    V, t = W, cross.new_ones(cross.shape[1])
    for iteration in range(max_iter):
        moved = V - step * (scatter @ V - cross)
        new = moved.sign() * (moved.abs() - step * alpha).clamp(min=0)
        restart = ((V - new) * (new - W)).sum(0) > 0
        t = torch.where(restart, torch.ones_like(t), t)
        following = (1 + (1 + 4 * t * t).sqrt()) / 2
        V = new + torch.where(restart, torch.zeros_like(t), (t - 1) / following) * (new - W)
        W, t = new, following
        if iteration % 20 == 19 and bool((_gap(scatter, cross, power, alpha, W) <= tol * power).all()):
            return W
    warnings.warn(f"a sparse probe did not converge in max_iter={max_iter} steps", ConvergenceWarning, stacklevel=4)
    return W


def _gap(scatter: Tensor, cross: Tensor, power: Tensor, alpha: Tensor, W: Tensor) -> Tensor:
    """Duality gap per column."""
    product = scatter @ W
    residual = cross - product  # correlation of each feature with what is left
    left = power - 2 * (W * cross).sum(0) + (W * product).sum(0)  # mean squared residual
    scale = (alpha / residual.abs().amax(0).clamp(min=1e-300)).clamp(max=1)
    primal = left / 2 + alpha * W.abs().sum(0)
    overlap = power - (W * cross).sum(0)  # mean of residual times y
    return primal - (scale * overlap - scale.square() * left / 2)
