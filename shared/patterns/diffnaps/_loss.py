"""DiffNaps' objective, and its gradient written out: as `diffnaps_loss` and autograd, in half the time.

At some hundred features a step by autograd spends most of its time on bookkeeping.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from shared.patterns.diffnaps._network import DiffNapsNet, DiffNapsOutput


def weighted_xor(reconstruction: Tensor, x: Tensor, density: float) -> Tensor:
    """Mean over rows of the errors, an invented one counted with the data's density s, a missed one with 1 − s.

    A right cell sits on the kink and must get no gradient: relu has slope 0 there; `clamp(min=0)` has slope 1, which
    drives all weights to 1.

    Parameters
    ----------
    reconstruction, x : (B, d) tensors
        0 and 1.
    density : float
        Fraction of ones in the data.

    Returns
    -------
    scalar tensor
        The weighted number of wrong cells per row.
    """
    gap = reconstruction - x
    return (density * F.relu(gap) + (1 - density) * F.relu(-gap)).sum(1).mean()


def length_penalty(weight: Tensor) -> Tensor:
    """Mean over patterns of max(1, Σᵢ(Wᵢ − 1/d))²: a quadratic price on a whole pattern's length, none below 1.

    Parameters
    ----------
    weight : (h, d) tensor
        Real weights.

    Returns
    -------
    scalar tensor
        At least 1.
    """
    return (weight.sum(1) - 1.0).clamp(min=1).square().mean()  # Σᵢ 1/d = 1


def w_shaped_penalty(values: Tensor, lasso: float, ridge: float) -> Tensor:
    """Mean of min(r(u), r(u − 1)) with r(u) = lasso·|u| + ridge·u²: pulls each value to 0 or 1.

    Parameters
    ----------
    values : tensor of any shape
        u.
    lasso, ridge : float
        Strengths.

    Returns
    -------
    scalar tensor
        0 where all values are 0 or 1.
    """
    to_zero = lasso * values.abs() + ridge * values.square()
    to_one = lasso * (values - 1).abs() + ridge * (values - 1).square()
    return torch.minimum(to_zero, to_one).mean()


class DiffNapsLoss(NamedTuple):
    """The four terms of the objective, already weighted; `total` is their sum.

    Attributes
    ----------
    reconstruction, classification, length, binary : scalar tensors
        Wrong cells, cross entropy, patterns' length, pull to 0 or 1.
    """

    reconstruction: Tensor
    classification: Tensor
    length: Tensor
    binary: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return self.reconstruction + self.classification + self.length + self.binary


def diffnaps_loss(
    net: DiffNapsNet,
    output: DiffNapsOutput,
    x: Tensor,
    y: Tensor,
    *,
    density: float,
    lambda_c: float = 10.0,
    weight_decay: float = 1.0,
    w_reg: tuple[float, float] = (0.0, 0.0),
    head_reg: tuple[float, float] = (0.0, 0.0),
) -> DiffNapsLoss:
    """The objective: weighted errors of reconstruction, cross entropy, length of patterns, pull to 0 or 1.

    Means stand for the paper's sums, as in the authors' program: the published strengths belong to means.

    Parameters
    ----------
    net : DiffNapsNet
        The network.
    output : DiffNapsOutput
        What it made of x.
    x : (B, d) tensor
        Rows of 0 and 1.
    y : (B,) int64 tensor
        Class numbers.
    density : float
        Fraction of ones in the data.
    lambda_c : float
        Weight of the classification.
    weight_decay : float
        Price of long patterns, λ_w.
    w_reg, head_reg : (float, float)
        Lasso and ridge of the W-shaped regulariser on weight − 1/d and on the head.

    Returns
    -------
    DiffNapsLoss
        The four terms; those with weight 0 are 0.
    """
    zero = output.logits.new_zeros(())
    binary = zero
    if any(w_reg):
        binary = binary + w_shaped_penalty(net.weight - 1 / net.weight.shape[1], *w_reg)
    if any(head_reg):
        binary = binary + w_shaped_penalty(net.head, *head_reg)
    return DiffNapsLoss(
        reconstruction=weighted_xor(output.reconstruction, x, density),
        classification=lambda_c * F.cross_entropy(output.logits, y) if lambda_c else zero,
        length=weight_decay * length_penalty(net.weight) if weight_decay else zero,
        binary=binary,
    )


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
) -> DiffNapsLoss:
    """`diffnaps_loss` of rows under sampled weights, and every parameter's `.grad`: a forward and backward pass in one.

    Old gradients are replaced, not added to. The backward pass is that of `binary_linear` and its neighbours.

    Parameters
    ----------
    net : DiffNapsNet
        The network, whose `.grad` are filled.
    x : (B, d) tensor
        Rows of 0 and 1.
    y : (B,) int64 tensor
        Class numbers.
    binary : (h, d) tensor
        From `DiffNapsNet.sample`.
    density, lambda_c, weight_decay, w_reg, head_reg
        See `diffnaps_loss`.

    Returns
    -------
    DiffNapsLoss
        The four terms.
    """
    active = (x @ binary.T + net.bias.clamp(max=-1).trunc() >= 0.5).to(x.dtype)
    gap = (active @ binary).clamp_(max=1).sub_(x)  # 1 invented, −1 missed, 0 right
    g_cells = gap.abs().mul_(density - 0.5).add_(gap, alpha=0.5).div_(len(x))  # s/B, −(1 − s)/B, 0
    reconstruction = torch.vdot(g_cells.flatten(), gap.flatten())
    g_active = g_cells @ net.weight.T

    classification = x.new_zeros(())
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
    binary_term = x.new_zeros(())
    if any(w_reg):
        term, pull = _w_gradient(net.weight - 1 / net.weight.shape[1], *w_reg)
        binary_term = binary_term + term
        g_weight += pull
    if any(head_reg):
        term, pull = _w_gradient(net.head, *head_reg)
        binary_term = binary_term + term
        g_head += pull
    net.head.grad = g_head
    if net.decoder is None:
        net.weight.grad = g_weight.add_(g_decoder)
    else:
        net.weight.grad = g_weight
        net.decoder.grad = g_decoder
    return DiffNapsLoss(reconstruction, classification, length, binary_term)


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
        term = w_shaped_penalty(values, lasso, ridge)
        return term.detach(), torch.autograd.grad(term, values)[0]
