"""DiffNaps' objective and its gradient written out, for training: as `diffnaps_loss` and autograd, in half the time.

At some hundred features a step by autograd spends most of its time on bookkeeping.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from shared.patterns._diffnaps_net import DiffNapsNet, LossTerms, w_shaped


@torch.no_grad()
def diffnaps_gradients(
    net: DiffNapsNet,
    x: Tensor,
    y: Tensor,
    binary: Tensor,
    *,
    density: float,
    lambda_c: float = 10.0,
    weight_decay: float = 1.0,
    w_reg: tuple[float, float] = (0.0, 0.0),
    head_reg: tuple[float, float] = (0.0, 0.0),
) -> LossTerms:
    """The terms of `diffnaps_loss` for rows x (B, d), labels y (B,) and sampled weights (h, d); fills every `.grad`.

    Old gradients are replaced, not added to. The backward pass is that of the layers in `_diffnaps_net`.
    """
    active = (x @ binary.T + net.bias.clamp(max=-1).trunc() >= 0.5).to(x.dtype)
    gap = (active @ binary).clamp_(max=1).sub_(x)  # 1 invented, −1 missed, 0 right
    g_cells = gap.abs().mul_(density - 0.5).add_(gap, alpha=0.5).div_(len(x))  # s/B, −(1 − s)/B, 0
    reconstruction = torch.vdot(g_cells.flatten(), gap.flatten())
    g_active = g_cells @ net.weight.T

    classification = binary_term = x.new_zeros(())
    g_head = torch.zeros_like(net.head)
    if lambda_c:
        log_p = F.log_softmax(active @ net.head.T, dim=1)
        classification = lambda_c * F.nll_loss(log_p, y)
        g_logits = (log_p.exp_() - F.one_hot(y, len(net.head))).mul_(lambda_c / len(x))
        g_active.addmm_(g_logits, net.head)
        g_head = g_logits.T @ active

    excess = net.weight.sum(1).sub_(1)
    length = weight_decay * excess.clamp(min=1).square().mean()
    g_length = (2 * weight_decay / len(excess)) * excess * (excess >= 1)

    g_decoder = active.T @ g_cells
    net.bias.grad = _bias_gradient(active, g_active, net.bias_rule)
    g_weight = torch.addmm(g_length[:, None], g_active.mul_(active).T, x)
    for values, grad, strengths in ((net.weight, g_weight, w_reg), (net.head, g_head, head_reg)):
        if any(strengths):
            term, pull = _w_gradient(values - 1 / values.shape[1] if values is net.weight else values, *strengths)
            binary_term = binary_term + term
            grad += pull
    net.head.grad = g_head
    if net.decoder is None:
        net.weight.grad = g_weight.add_(g_decoder)
    else:
        net.weight.grad, net.decoder.grad = g_weight, g_decoder
    return LossTerms(reconstruction, classification, length, binary_term)


def _bias_gradient(active: Tensor, grad: Tensor, rule: str) -> Tensor:
    """Where a neuron fired all of the gradient counts, where it was silent only what makes it fire more easily."""
    falling = grad.clamp(max=0)
    if rule == "sample":
        return torch.where(active > 0, grad, falling).sum(0)
    fired = active.sum(0)
    return (len(active) - fired) * falling.sum(0) + fired * grad.sum(0)


def _w_gradient(values: Tensor, lasso: float, ridge: float) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        values = values.detach().requires_grad_()
        term = w_shaped(values, lasso, ridge)
        return term.detach(), torch.autograd.grad(term, values)[0]
