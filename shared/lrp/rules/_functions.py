"""The few operations whose gradient isn't already the LRP coefficient (`R = x * c`, `c` is what backward carries).

Linear, homogeneous piecewise linear and softmax operations need nothing: their ordinary vector-Jacobian product is the
rule. Each of these operations has a forward mode too, the transpose of its backward pass, so that one forward pass with
tangents gives the relevance of a fixed region for every output at once (`lm.guide`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def stabilize(z: Tensor, epsilon: float) -> Tensor:
    """`z + epsilon * sgn(z)` with `sgn(0) = +1`: a denominator that is never 0.

    Parameters
    ----------
    z : of any shape.
    epsilon : >= 0.

    Returns
    -------
    In the shape of z.
    """
    return torch.copysign(z.new_full((), epsilon), z + 0.0).add_(z)  # -0 + 0 is 0; `where` takes many times as long


def scale_gradient(tensor: Tensor, factor: float | Tensor) -> Tensor:
    """Multiply the coefficient that flows back through `tensor` (and the tangent that flows on) by `factor`.

    Returns the tensor itself (no copy) unless it carries a tangent.
    """
    if tensor.requires_grad:
        tensor.register_hook(lambda c: c * factor)
    primal, tangent = forward_ad.unpack_dual(tensor)
    return tensor if tangent is None else forward_ad.make_dual(primal, tangent * factor)


def slope_at_zero(function: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """Limit of `f(x) / x` at 0: `f'(0)` where `f(0) = 0`, else 0 (the division would have no limit)."""
    with torch.enable_grad():
        zero = torch.zeros(1, dtype=torch.float32, device=like.device, requires_grad=True)
        value = function(zero)
        if value.item() != 0:
            return 0.0
        return torch.autograd.grad(value, zero)[0].item()


class IdentityActivation(torch.autograd.Function):
    """Elementwise `y = f(x)` with `R_x = R_y`, that is `c_x = c_y f(x) / x` (AttnLRP, eq. 9)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], slope: float) -> Tensor:
        y = function(x)
        zero = x == 0
        ratio = (y / x).masked_fill_(zero, slope)
        if x.dtype == torch.float16:  # f(0) != 0 overflows near 0
            ratio.clamp_(torch.finfo(x.dtype).min, torch.finfo(x.dtype).max)
        ctx.save_for_backward(ratio)
        ctx.save_for_forward(ratio)
        return y

    @staticmethod
    def backward(ctx: Any, c: Tensor) -> tuple[Tensor, None, None]:
        (ratio,) = ctx.saved_tensors
        return c * ratio, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (ratio,) = ctx.saved_tensors
        return tangent * ratio


class SwishActivation(torch.autograd.Function):
    """`y = x sigmoid(scale x)` (SiLU, quick GELU), identity rule: `c_x = c_y sigmoid(scale x)`, no division."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], scale: float) -> Tensor:
        ratio = torch.sigmoid(x if scale == 1 else x * scale)
        ctx.save_for_backward(ratio)
        ctx.save_for_forward(ratio)
        return function(x)

    @staticmethod
    def backward(ctx: Any, c: Tensor) -> tuple[Tensor, None, None]:
        (ratio,) = ctx.saved_tensors
        return c * ratio, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (ratio,) = ctx.saved_tensors
        return tangent * ratio


class UniformProduct(torch.autograd.Function):
    """`a * b` where both factors get half of the relevance (AttnLRP, Prop. 3.2)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.save_for_forward(a, b)
        return a * b

    @staticmethod
    def backward(ctx: Any, c: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        half = c * 0.5
        to_a = half * b if ctx.needs_input_grad[0] else None
        return to_a, half * a if ctx.needs_input_grad[1] else None

    @staticmethod
    def jvp(ctx: Any, of_a: Tensor | None, of_b: Tensor | None) -> Tensor:
        a, b = ctx.saved_tensors
        parts = [(of_a, b), (of_b, a)]
        return sum(tangent * other for tangent, other in parts if tangent is not None) * 0.5
