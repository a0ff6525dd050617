"""LRP rules of linear layers, in coefficient form (engine note, section 2; defaults as in zennit).

`z = W x + b` is the layer's true output, `c` the coefficient that arrives, `R = c z`, `V(W, s)` the transposed product,
`st(z) = z + epsilon sgn(z)`. A rule returns the true output and arranges what flows back to the input.
Explicit rules (Flat, WSquare, ZBox) send the relevance itself: they belong to the input layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Size, Tensor

from shared._checks import check_range
from shared.lrp._functions import scale_gradient, stabilize
from shared.lrp._ops import LinearOp


@dataclass(frozen=True, eq=False)
class Rule:
    """Base of all rules. `zero_params=("bias",)` leaves biases out of the denominators.

    Attributes:
        explicit: the rule sends relevance instead of a coefficient, which only the input layer may do.
    """

    explicit: ClassVar[bool] = False
    zero_params: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "zero_params", tuple(_listed(self.zero_params)))
        if not set(self.zero_params) <= {"bias"}:
            raise ValueError(f"zero_params={self.zero_params!r} is unknown; accepted: () or ('bias',)")
        for name in ("epsilon", "gamma", "alpha", "beta"):
            if hasattr(self, name):
                check_range(name, getattr(self, name), 0.0)

    def apply(self, op: LinearOp, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's true output `z`, with this rule attached to its backward pass."""
        return _Propagate.apply(x, self, op, weight, bias)

    def _denominator_bias(self, op: LinearOp, bias: Tensor | None, z: Tensor) -> Tensor:
        if bias is None or "bias" in self.zero_params:
            return z.new_zeros(())
        return op.broadcast(bias, z)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else (value or ())


class _Propagate(torch.autograd.Function):
    """Carries a rule's `forward` (returns z and what backward needs) and `backward` (coefficient of x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rule: Any, op: LinearOp, weight: Tensor, bias: Tensor | None) -> Tensor:
        z, saved = rule.forward(op, x, weight, bias)
        ctx.rule, ctx.op, ctx.shape = rule, op, x.shape
        ctx.save_for_backward(weight, *saved)
        return z

    @staticmethod
    def backward(ctx: Any, c: Tensor) -> tuple[Tensor, None, None, None, None]:
        weight, *saved = ctx.saved_tensors
        return ctx.rule.backward(ctx.op, ctx.shape, weight, saved, c), None, None, None, None


@dataclass(frozen=True, eq=False)
class Epsilon(Rule):
    """`c_x = V(W, R / st(z))` (Bach et al. 2015, eq. 58); `epsilon=0` is LRP-0. Also keeps weight gradients."""

    epsilon: float = 1e-6

    def apply(self, op: LinearOp, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        z = op.apply(x, weight, bias)
        if bias is None or "bias" not in self.zero_params:
            return attach_stabilizer(z, self.epsilon)
        return attach_stabilizer(z, self.epsilon, z.detach() - op.broadcast(bias, z).detach())


def attach_stabilizer(z: Tensor, epsilon: float, denominator: Tensor | None = None) -> Tensor:
    """Scale the coefficient at `z` by `z / st(denominator)`; the denominator is z itself unless given."""
    if not z.requires_grad or (epsilon == 0 and denominator is None):
        return z
    with torch.no_grad():
        if denominator is None:
            size = z.abs()
            ratio = size.div_(size + epsilon)  # = z / (z + epsilon sgn z)
        else:
            ratio = _safe_ratio(z, stabilize(denominator, epsilon))
    return scale_gradient(z, ratio)


def _safe_ratio(numerator: Tensor, denominator: Tensor, into: Tensor | None = None) -> Tensor:
    """numerator / denominator, 0 where the denominator is 0 (nothing to distribute over); `into` is overwritten."""
    zero = denominator == 0
    return torch.div(numerator, denominator, out=into).masked_fill_(zero, 0.0)


@dataclass(frozen=True, eq=False)
class Norm(Rule):
    """Epsilon on a parameter-free sum such as average pooling; scales the coefficient by `z / st(z)`."""

    epsilon: float = 1e-6


@dataclass(frozen=True, eq=False)
class Pass(Rule):
    """`R_x = R_y` elementwise: the identity rule, for modules that keep the shape."""


@dataclass(frozen=True, eq=False)
class Gamma(Rule):
    """Favours positive contributions by gamma (Montavon et al. 2019), generalised to inputs of either sign.

    With `W^ = W + gamma W+`, `W_ = W + gamma W-`: outputs above 0 distribute in proportion to `W^ x+ + W_ x-`, outputs
    below 0 in proportion to `W_ x+ + W^ x-`. Both follow from `W x` and `|W| |x|`: the denominator is
    `(1 + gamma/2) z + sgn(z) gamma/2 (|W| |x| + |b|)`, so two products each way do for any sign of x. `gamma=0` is
    Epsilon; `gamma -> inf` approaches ZPlus for outputs above 0.
    """

    gamma: float = 0.25
    epsilon: float = 1e-6

    def forward(self, op: LinearOp, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        z = op.apply(x, weight, bias)
        drop = bias is not None and "bias" in self.zero_params
        nonnegative = bool(x.amin() >= 0)
        size = op.apply(x if nonnegative else x.abs(), weight.abs(), None if drop or bias is None else bias.abs())
        if drop:
            linear = z - op.broadcast(bias, z)
            total = linear * (1 + self.gamma / 2) + (self.gamma / 2) * z.sign() * size
            ratio = _safe_ratio(z, stabilize(total, self.epsilon))
        else:  # total and z have the same sign, which cancels
            magnitude = z.abs()
            total = size.mul_(self.gamma / 2).add_(magnitude, alpha=1 + self.gamma / 2).add_(self.epsilon)
            ratio = _safe_ratio(magnitude, total, into=total)
        return z, [ratio, z > 0, x.new_empty(0) if nonnegative else x.sign()]

    def backward(self, op: LinearOp, shape: Size, weight: Tensor, saved: list[Tensor], c: Tensor) -> Tensor:
        ratio, positive, sign = saved
        s = c * ratio
        plain = op.vjp(weight * (1 + self.gamma / 2), s, shape)
        extra = op.vjp(weight.abs() * (self.gamma / 2), torch.where(positive, s, -s), shape)
        return plain.add_(extra) if sign.numel() == 0 else plain.addcmul_(sign, extra)


@dataclass(frozen=True, eq=False)
class AlphaBeta(Rule):
    """`alpha` times positive minus `beta` times negative contributions, `alpha - beta = 1` (Bach 2015, eq. 60)."""

    alpha: float = 2.0
    beta: float = 1.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        if abs(self.alpha - self.beta - 1) > 1e-9:
            raise ValueError(f"alpha={self.alpha}, beta={self.beta}: alpha - beta must be 1")

    def forward(self, op: LinearOp, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        nonnegative = bool(x.amin() >= 0)  # after a ReLU the terms of x- vanish: half the work
        above = self._part(op, x, up, down, nonnegative)
        if self.beta == 0:
            z = op.apply(x, weight, bias)
            below = None
        else:
            below = self._part(op, x, down, up, nonnegative)
            z = above + below
            z = z if bias is None else z.add_(op.broadcast(bias, z))
        b = self._denominator_bias(op, bias, z)
        saved = [self._ratio(self.alpha, z, above, b.clamp(min=0), self.epsilon)]
        if below is not None:
            saved.append(self._ratio(-self.beta, z, below, b.clamp(max=0), -self.epsilon))
        return z, [x.new_empty(0) if nonnegative else x.sign(), *saved]

    @staticmethod
    def _part(op: LinearOp, x: Tensor, same: Tensor, other: Tensor, nonnegative: bool) -> Tensor:
        if nonnegative:
            return op.apply(x, same, None)
        return op.apply(x.clamp(min=0), same, None) + op.apply(x.clamp(max=0), other, None)

    @staticmethod
    def _ratio(factor: float, z: Tensor, part: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        """`factor z / st(part + bias)`; the part has the stabilizer's sign throughout. Overwrites `part`."""
        ratio = _safe_ratio(z, part.add_(bias + epsilon), into=part)
        return ratio if factor == 1 else ratio.mul_(factor)

    def backward(self, op: LinearOp, shape: Size, weight: Tensor, saved: list[Tensor], c: Tensor) -> Tensor:
        sign, *ratios = saved
        weights = [weight.clamp(min=0), weight.clamp(max=0)]
        parts = [c * ratio for ratio in ratios]
        to_positive = _sum(op.vjp(w, part, shape) for w, part in zip(weights, parts))
        if sign.numel() == 0:
            return to_positive
        to_negative = _sum(op.vjp(w, part, shape) for w, part in zip(weights[::-1], parts))
        return torch.where(sign > 0, to_positive, to_negative).masked_fill_(sign == 0, 0.0)


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    """Sum into the first tensor."""
    first, *others = tensors
    for other in others:
        first.add_(other)
    return first


class ZPlus(AlphaBeta):
    """Only positive contributions: `AlphaBeta(1, 0)` (Montavon et al. 2017)."""

    def __init__(self, epsilon: float = 1e-6, zero_params: tuple[str, ...] = ()) -> None:
        super().__init__(zero_params=zero_params, alpha=1.0, beta=0.0, epsilon=epsilon)


@dataclass(frozen=True, eq=False)
class _InputRule(Rule):
    explicit: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class Flat(_InputRule):
    """Equal shares over the receptive field: Epsilon with `x := 1, W := 1, b := 0`. Input layer only."""

    epsilon: float = 1e-6

    def _stand_in(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return torch.ones_like(weight), None

    def forward(self, op: LinearOp, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        z = op.apply(x, weight, bias)
        stand_in, offset = self._stand_in(weight, bias)
        share = op.apply(torch.ones_like(x[:1]), stand_in, offset)
        return z, [_safe_ratio(z, stabilize(share, self.epsilon)), stand_in]

    def backward(self, op: LinearOp, shape: Size, weight: Tensor, saved: list[Tensor], c: Tensor) -> Tensor:
        ratio, stand_in = saved
        return op.vjp(stand_in, c * ratio, shape)


@dataclass(frozen=True, eq=False)
class WSquare(Flat):
    """Shares in proportion to squared weights: `x := 1, W := W^2, b := b^2`. Input layer only."""

    def _stand_in(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        keep = bias is not None and "bias" not in self.zero_params
        return weight**2, bias**2 if keep else None


@dataclass(frozen=True, eq=False)
class ZBox(_InputRule):
    """z^B for pixels in `[low, high]` (Montavon et al. 2017); bounds in the model's normalised units. Input layer only.

    Args:
        low, high: scalars or tensors that broadcast to the input, e.g. `(1, C, 1, 1)`; low <= high.
    """

    low: float | Tensor = 0.0
    high: float | Tensor = 1.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool((torch.as_tensor(self.low) > torch.as_tensor(self.high)).any()):
            raise ValueError(f"low={self.low!r} must not exceed high={self.high!r}")

    def forward(self, op: LinearOp, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        z = op.apply(x, weight, bias)
        low, high = (torch.as_tensor(v).to(x).expand(x[:1].shape) for v in (self.low, self.high))
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        linear = z if bias is None else z - op.broadcast(bias, z)  # the three biases cancel
        box = linear - op.apply(low, up, None) - op.apply(high, down, None)
        return z, [x, low, high, _safe_ratio(z, stabilize(box, self.epsilon))]

    def backward(self, op: LinearOp, shape: Size, weight: Tensor, saved: list[Tensor], c: Tensor) -> Tensor:
        x, low, high, ratio = saved
        s = c * ratio
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        return x * op.vjp(weight, s, shape) - low * op.vjp(up, s, shape) - high * op.vjp(down, s, shape)
