"""Choosing or changing the non-concept set so that a concept vector says what an attacker wants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared import hooks
from shared._checks import check_array, check_choice, check_finite, check_range, check_shape
from shared.probes._inputs import channel_axis


def select_for_tcav(
    pool: Tensor, gradient: Tensor, n: int, *, sign: int = 1, strata: Tensor | None = None, quotas: Tensor | None = None
) -> Tensor:
    """Rows of the non-concept pool (N, d) that push TCAV up (sign=1) or down (−1) the most: (n,) numbers.

    For a difference of means the mean sensitivity is `ḡ·(concept mean − mean of the chosen)`, so the n samples with the
    smallest (largest) `ḡ·h` are the exact optimum. gradient : (d,) the class's mean gradient.
    strata : (N,) group of each sample; quotas : (groups,) how many to take from each (then they sum to n), so that the
    chosen set has the same make-up as an honest one.
    """
    check_choice("sign", sign, (1, -1))
    check_array("pool", pool, ("N", "d"))
    check_array("gradient", gradient, (pool.shape[1],))
    if len(pool) < 2 * n:
        raise ValueError(f"pool has {len(pool)} samples; at least 2 n = {2 * n} are needed for a choice")
    score = sign * (pool.double() @ gradient.double().to(pool.device))
    if strata is None:
        return score.argsort(stable=True)[:n]
    check_shape("strata", strata, (len(pool),))
    if quotas is None or int(quotas.sum()) != n:
        raise ValueError(f"quotas must be given with strata and sum to n={n}; got {quotas}")
    check_shape("quotas", quotas, ("groups",))
    chosen = []
    for group, quota in enumerate(quotas.tolist()):
        rows = (strata == group).nonzero().flatten()
        if len(rows) < quota:
            raise ValueError(f"quotas asks for {quota} samples of group {group}; the pool has {len(rows)}")
        chosen.append(rows[score[rows].argsort(stable=True)[:quota]])
    return torch.cat(chosen)


def herd_to_point(pool: Tensor, point: Tensor, n: int) -> Tensor:
    """Greedy herding: n different rows of the pool (N, d) whose mean comes close to `point` (d,).

    To turn a difference of means towards a direction u, take `point = concept mean − s u`. O(n N d).
    """
    check_array("pool", pool, ("N", "d"))
    check_array("point", point, (pool.shape[1],))
    if len(pool) < 2 * n:
        raise ValueError(f"pool has {len(pool)} samples; at least 2 n = {2 * n} are needed for a choice")
    H = pool.double() - point.double().to(pool.device)
    total, free, size = torch.zeros_like(H[0]), torch.ones(len(H), dtype=torch.bool, device=H.device), H.square().sum(1)
    chosen = []
    for _ in range(n):
        cost = (size + 2 * (H @ total)).masked_fill(~free, torch.inf)  # |total + h|² without its constant
        best = int(cost.argmin())
        chosen.append(best)
        free[best] = False
        total = total + H[best]
    return torch.tensor(chosen, device=pool.device)


def pgd_shift(
    model: nn.Module,
    layer: str,
    x: Tensor,
    gradient: Tensor,
    *,
    sign: int = 1,
    epsilon: float = 8 / 255,
    steps: int = 10,
    low: float | Tensor = 0.0,
    high: float | Tensor = 1.0,
) -> Tensor:
    """Images (n, C, H, W) changed by at most `epsilon` per pixel so that their activations push TCAV (see `sign`).

    Projected sign-gradient steps on `−sign · ḡ·mean activation`; low, high : the pixels' range.
    """
    check_choice("sign", sign, (1, -1))
    check_range("epsilon", epsilon, 0)
    check_finite("x", x)
    check_array("gradient", gradient, ("d",))
    changed = x.clone()
    for _ in range(steps):
        changed.requires_grad_()
        with torch.enable_grad(), hooks.capture(model, layer, detach=False) as seen:
            model(changed)
            activation = seen[layer]
            axes = [a for a in range(1, activation.ndim) if a != channel_axis(activation)]
            pooled = activation.mean(axes) if axes else activation
            check_shape("gradient", gradient, (pooled.shape[1],))
            loss = sign * (pooled @ gradient.to(pooled)).sum()
            (slope,) = torch.autograd.grad(loss, changed)
        step = changed.detach() - 2.5 * epsilon / steps * slope.sign()
        changed = torch.minimum(torch.maximum(step, x - epsilon), x + epsilon)
        changed = torch.minimum(torch.maximum(changed, torch.as_tensor(low).to(x)), torch.as_tensor(high).to(x))
    return changed.detach()
