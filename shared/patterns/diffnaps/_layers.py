"""DiffNaps' binary layers, whose backward passes are those of real ones.

Source: Walter, Fischer and Vreeken, "Finding Interpretable Class-Specific Patterns through Efficient Neural Search",
AAAI 2024, section 3.2; Fischer and Vreeken, "Differentiable Pattern Set Mining", KDD 2021.
"""

from __future__ import annotations

from torch import Tensor
from torch.autograd import Function

from shared._checks import check_choice

BIAS_RULES = ("sample", "batch")


class _BinaryLinear(Function):
    """x W_bᵀ forward; backward as if the layer had the real weights: ∂x = g W, ∂W = gᵀ x."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, binary: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ binary.T

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        return grad @ weight if ctx.needs_input_grad[0] else None, grad.T @ x, None


class _BinaryLinearTransposed(Function):
    """z W_b forward, the tied decoder; backward with the real weights: ∂z = g Wᵀ, ∂W = zᵀ g."""

    @staticmethod
    def forward(ctx, z: Tensor, weight: Tensor, binary: Tensor) -> Tensor:
        ctx.save_for_backward(z, weight)
        return z @ binary

    @staticmethod
    def backward(ctx, grad: Tensor):
        z, weight = ctx.saved_tensors
        return grad @ weight.T, z.T @ grad, None


class _GatedStep(Function):
    """1 where count + trunc(bias) ≥ 1; backward lets active units pass, and silent ones only lower their threshold."""

    @staticmethod
    def forward(ctx, count: Tensor, bias: Tensor, per_sample: bool) -> Tensor:
        active = (count + bias.clamp(max=-1).trunc() >= 0.5).to(count.dtype)
        ctx.save_for_backward(active)
        ctx.per_sample = per_sample
        return active

    @staticmethod
    def backward(ctx, grad: Tensor):
        (active,) = ctx.saved_tensors
        silent = 1 - active
        if ctx.per_sample:
            grad_bias = (silent * grad.clamp(max=0) + active * grad).sum(0)
        else:
            grad_bias = silent.sum(0) * grad.clamp(max=0).sum(0) + active.sum(0) * grad.sum(0)
        return active * grad, grad_bias, None


class _Or(Function):
    """1 where a count is at least 1; the gradient passes straight through."""

    @staticmethod
    def forward(ctx, count: Tensor) -> Tensor:
        return count.clamp(0, 1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad


def binary_linear(x: Tensor, weight: Tensor, binary: Tensor) -> Tensor:
    """How many items of each sampled pattern a row has, x W_bᵀ.

    The gradient is that of the real layer x Wᵀ: g W with respect to x, gᵀ x with respect to the weights (section 3.2).

    Parameters
    ----------
    x : (B, d) tensor
        Rows of 0 and 1.
    weight : (h, d) tensor
        Real weights in [0, 1].
    binary : (h, d) tensor
        A sample of them, 0 and 1.

    Returns
    -------
    (B, h) tensor
        Counts.
    """
    return _BinaryLinear.apply(x, weight, binary)


def binary_linear_transposed(z: Tensor, weight: Tensor, binary: Tensor) -> Tensor:
    """How many active patterns hold each item, z W_b: the decoder, tied to the encoder's weights.

    Parameters
    ----------
    z : (B, h) tensor
        Which patterns fire, 0 and 1.
    weight : (h, d) tensor
        Real weights in [0, 1], whose layer z W gives the gradient.
    binary : (h, d) tensor
        A sample of them, 0 and 1.

    Returns
    -------
    (B, d) tensor
        Counts.
    """
    return _BinaryLinearTransposed.apply(z, weight, binary)


def gated_step(count: Tensor, bias: Tensor, *, bias_rule: str = "sample") -> Tensor:
    """Which patterns fire: those of whose items at least 1 − trunc(min(b, −1)) are present, so two for b = −1.

    Gradient, z being the output: ∂count = z ⊙ g, and ∂b sums g over the rows where the pattern fired and min(g, 0) over
    those where it did not, so that a silent pattern is only ever made easier to fire. The formulas for b and the count
    stand the other way round in the paper's text; this is what the authors' program computes, except that it adds up
    the batch before it tells active from silent rows.

    Parameters
    ----------
    count : (B, h) tensor
        Items present, from `binary_linear`.
    bias : (h,) tensor
        At most −1.
    bias_rule : "sample" or "batch"
        Tell active from silent rows one by one, or after adding up the batch, as the authors' program does.

    Returns
    -------
    (B, h) tensor
        0 and 1.
    """
    check_choice("bias_rule", bias_rule, BIAS_RULES)
    return _GatedStep.apply(count, bias, bias_rule == "sample")


def logical_or(count: Tensor) -> Tensor:
    """Reconstruction: an item is there if any active pattern holds it (straight-through gradient).

    Parameters
    ----------
    count : (B, d) tensor
        Active patterns that hold each item, from `binary_linear_transposed`.

    Returns
    -------
    (B, d) tensor
        0 and 1.
    """
    return _Or.apply(count)
