"""Choosing or changing the non-concept set so that a concept vector says what an attacker wants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared import hooks
from shared._checks import check_array, check_choice, check_finite, check_range, check_shape, wide


def select_for_tcav(
    candidates: Tensor,
    gradient: Tensor,
    n: int,
    *,
    sign: int = 1,
    strata: Tensor | None = None,
    quotas: Tensor | None = None,
) -> Tensor:
    """Candidates for the non-concept set that push TCAV up or down the most.

    For a difference of means the mean sensitivity is `ḡ·(concept mean − mean of the chosen)`, so the n samples with the
    smallest (largest) `ḡ·h` are the exact optimum.

    Parameters
    ----------
    candidates : activations (N, d), N >= 2 n.
    gradient : the class's mean gradient (d,).
    n : how many to choose.
    sign : 1 pushes up, −1 down.
    strata : (N,), group of each candidate.
    quotas : (groups,), how many to take from each (they sum to n), so that the chosen set is made up as an honest one.

    Returns
    -------
    (n,), numbers of rows.
    """
    check_choice("sign", sign, (1, -1))
    check_array("candidates", candidates, ("N", "d"))
    check_array("gradient", gradient, (candidates.shape[1],))
    if len(candidates) < 2 * n:
        raise ValueError(f"candidates has {len(candidates)} samples; at least 2 n = {2 * n} are needed for a choice")
    score = sign * (wide(candidates) @ wide(gradient).to(candidates.device))
    if strata is None:
        return score.argsort(stable=True)[:n]
    check_shape("strata", strata, (len(candidates),))
    if quotas is None or int(quotas.sum()) != n:
        raise ValueError(f"quotas must be given with strata and sum to n={n}; got {quotas}")
    check_shape("quotas", quotas, ("groups",))
    chosen = []
    for group, quota in enumerate(quotas.tolist()):
        rows = (strata == group).nonzero().flatten()
        if len(rows) < quota:
            raise ValueError(f"quotas asks for {quota} samples of group {group}; candidates has {len(rows)}")
        chosen.append(rows[score[rows].argsort(stable=True)[:quota]])
    return torch.cat(chosen)


def herd_to_point(candidates: Tensor, point: Tensor, n: int) -> Tensor:
    """Greedy herding: n different candidates whose mean comes close to a point; O(n N d).

    To turn a difference of means towards a direction u, take `point = concept mean − s u`.

    Parameters
    ----------
    candidates : activations (N, d), N >= 2 n.
    point : (d,).
    n : how many to choose.

    Returns
    -------
    (n,), numbers of rows.
    """
    check_range("n", n, 1)
    check_array("candidates", candidates, ("N", "d"))
    check_array("point", point, (candidates.shape[1],))
    if len(candidates) < 2 * n:
        raise ValueError(f"candidates has {len(candidates)} samples; at least 2 n = {2 * n} are needed for a choice")
    H = wide(candidates) - wide(point).to(candidates.device)
    size = H.square().sum(1)
    free = torch.ones(len(H), dtype=torch.bool, device=H.device)
    total = torch.zeros_like(H[0])
    chosen = []
    for _ in range(n):
        cost = (size + 2 * (H @ total)).masked_fill(~free, torch.inf)  # |total + h|² without its constant
        best = int(cost.argmin())
        chosen.append(best)
        free[best] = False
        total = total + H[best]
    return torch.tensor(chosen, device=candidates.device)


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
    channel_axis: int | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Images changed a little so that their activations push TCAV: projected sign-gradient steps.

    The loss is `sign · ḡ·mean activation`, decreased.

    Parameters
    ----------
    model : in eval mode.
    layer : a module's name.
    x : images (n, C, H, W).
    gradient : the class's mean gradient ḡ (d,).
    sign : 1 pushes up, −1 down.
    epsilon : largest change per pixel.
    steps : number of steps, each of 2.5 epsilon / steps.
    low, high : the pixels' range, numbers or tensors that broadcast with x.
    channel_axis : where the layer doesn't tell (`hooks.find_channel_axis`).
    batch_size : images per pass; the result doesn't depend on it.

    Returns
    -------
    (n, C, H, W).
    """
    check_range("steps", steps, 0)
    check_range("batch_size", batch_size, 1)
    check_choice("sign", sign, (1, -1))
    check_range("epsilon", epsilon, 0)
    check_finite("x", x)
    if not x.is_floating_point():
        raise ValueError(f"x holds {x.dtype}; pixels that can be changed a little are floating-point numbers")
    check_array("gradient", gradient, ("d",))
    hooks.refuse_training(model)
    find = hooks.AxisFinder(model, layer, channel_axis=channel_axis)

    def slope_at(pixels: Tensor) -> Tensor:
        with hooks.graph_mode(), hooks.capture(model, layer, detach=False) as seen:
            pixels = pixels.detach().clone().requires_grad_()
            hooks.run_model(model, pixels)
            pooled = hooks.pool(seen[layer], "mean", channel_axis=find(seen[layer]))
            check_shape("gradient", gradient, (pooled.shape[1],))
            loss = sign * (pooled @ gradient.to(pooled)).sum()
            return torch.autograd.grad(loss, pixels)[0]

    def inside(pixels: Tensor, start: Tensor, rows: slice) -> Tensor:
        ball = torch.minimum(torch.maximum(pixels, start - epsilon), start + epsilon)
        lowest, highest = (_rows_of(bound, x, rows).to(x) for bound in (low, high))
        return torch.minimum(torch.maximum(ball, lowest), highest)

    parts = []
    for first in range(0, len(x), batch_size):
        rows = slice(first, first + batch_size)
        changed = x[rows]
        for _ in range(steps):
            changed = inside(changed - 2.5 * epsilon / steps * slope_at(changed).sign(), x[rows], rows)
        parts.append(changed.detach())
    return torch.cat(parts)


def _rows_of(bound: float | Tensor, x: Tensor, rows: slice) -> Tensor:
    """The bound for some of the images: a tensor like x is cut alike."""
    bound = torch.as_tensor(bound)
    return bound[rows] if bound.ndim == x.ndim and len(bound) == len(x) else bound
