"""LRP rules of linear layers, in coefficient form (defaults as in zennit)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Size, Tensor

from shared.lrp.rules._base import ElementwiseRule, LinearRule, Rule, attach_stabilizer, safe_ratio
from shared.lrp.rules._functions import stabilize
from shared.lrp.rules._ops import LinearOp


@dataclass(frozen=True, eq=False)
class Epsilon(Rule):
    """Shares in proportion to contributions, `c_x = V(W, R / st(z))` (Bach et al. 2015, eq. 58); any layer.

    Small outputs are damped by the stabilizer. Keeps weight gradients, and so serves `weight_relevance`.

    Parameters
    ----------
    epsilon : stabilizer, >= 0; 0 is LRP-0.
    zero_params : `("bias",)` lets the inputs share what the bias would keep.
    """

    epsilon: float = 1e-6

    def apply(self, op: LinearOp, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        z = op.apply(x, weight, bias)
        if bias is None or "bias" not in self.zero_params:
            return attach_stabilizer(z, self.epsilon)
        return attach_stabilizer(z, self.epsilon, z.detach() - op.broadcast(bias, z).detach())


@dataclass(frozen=True, eq=False)
class Norm(Epsilon):
    """`Epsilon` by the name it has on parameter-free sums such as average pooling.

    Parameters
    ----------
    epsilon : stabilizer, >= 0.
    zero_params : as in `Epsilon`.
    """


@dataclass(frozen=True, eq=False)
class Pass(ElementwiseRule):
    """`R_x = R_y` elementwise: the identity rule, for modules that keep the shape.

    Parameters
    ----------
    zero_params : without effect.
    """

    def apply(self, op: LinearOp, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return op.identity(x, weight, bias)  # knows the limit at 0

    def ratio(self, x: Tensor, y: Tensor) -> Tensor:
        return safe_ratio(y, x)


@dataclass(frozen=True, eq=False)
class Gamma(LinearRule):
    """Favours positive contributions by gamma (Montavon et al. 2019), generalised to inputs of either sign.

    With `W^ = W + gamma W+`, `W_ = W + gamma W-`: outputs above 0 distribute in proportion to `W^ x+ + W_ x-`, outputs
    below 0 in proportion to `W_ x+ + W^ x-`. Both follow from `W x` and `|W| |x|`: the denominator is
    `(1 + gamma/2) z + sgn(z) gamma/2 (|W| |x| + |b|)`, so two products each way do for any sign of x.

    Parameters
    ----------
    gamma : how much contributions of the output's own sign are favoured, >= 0: 0 is `Epsilon`, large values approach
        `ZPlus` for outputs above 0. 0.25 in convolutions and up to 0.1 in a transformer's dense layers are usual.
    epsilon : stabilizer of the denominator, >= 0.
    zero_params : `("bias",)` leaves the bias out of the denominator.
    """

    gamma: float = 0.25
    epsilon: float = 1e-6

    def forward(self, op: LinearOp, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        z, half = op.apply(x, weight, bias), self.gamma / 2
        nonnegative = bool(x.amin() >= 0)
        size = x if nonnegative else x.abs()
        sign = x.new_empty(0) if nonnegative else x.sign()
        if bias is not None and "bias" in self.zero_params:
            linear = z - op.broadcast(bias, z)
            total = linear * (1 + half) + half * z.sign() * op.apply(size, weight.abs(), None)
            ratio = safe_ratio(z, stabilize(total, self.epsilon), self.epsilon)
            return z, [ratio * z.sign(), sign, ratio]
        offset = None if bias is None else bias.abs() * half
        total = _with_offset(op, size, weight.abs() * half, offset, self.epsilon)
        total.add_(z.abs(), alpha=1 + half)  # the size of what has the sign of z
        return z, [safe_ratio(z, total, self.epsilon, into=total), sign]

    def backward(self, op: LinearOp, shape: Size, weight: Tensor, saved: list[Tensor], c: Tensor) -> Tensor:
        signed, sign, *rest = saved  # the ratio of z to its denominator times the sign of z, and itself if not its size
        sent = rest[0] * c if rest else signed.abs().mul_(c)
        plain = op.vjp(weight * (1 + self.gamma / 2), sent, shape)
        extra = op.vjp(weight.abs() * (self.gamma / 2), c * signed, shape)
        return plain.add_(extra) if sign.numel() == 0 else plain.addcmul_(sign, extra)


def _with_offset(op: LinearOp, x: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float) -> Tensor:
    """`W x + b + epsilon`, the sum with epsilon made by the product itself where it has a bias."""
    if bias is None:
        return op.apply(x, weight, None).add_(epsilon)
    return op.apply(x, weight, bias + epsilon)


class _TwoSided(LinearRule):
    """`alpha` times positive minus `beta` times negative contributions, each over its own sum."""

    alpha: float
    beta: float
    epsilon: float

    def forward(self, op: LinearOp, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        signs = [weight.clamp(min=0), weight.clamp(max=0)]
        nonnegative = bool(x.amin() >= 0)  # after a ReLU the terms of x- vanish: half the work
        b = self._denominator_bias(bias)
        above = self._part(op, x, signs, None if b is None else b.clamp(min=0), self.epsilon, nonnegative)
        denominators = [above]
        if self.beta == 0:
            z = op.apply(x, weight, bias)
        else:
            below = self._part(op, x, signs[::-1], None if b is None else b.clamp(max=0), -self.epsilon, nonnegative)
            denominators.append(below)
            z = above + below  # with b+ and b-; the stabilizers cancel
            z = z if bias is b else z.add_(op.broadcast(bias, z))
        ratios = [safe_ratio(z, part, self.epsilon, into=part) for part in denominators]
        return z, [x.new_empty(0) if nonnegative else x.sign(), *ratios]

    @staticmethod
    def _part(
        op: LinearOp, x: Tensor, signs: list[Tensor], bias: Tensor | None, epsilon: float, nonnegative: bool
    ) -> Tensor:
        """The contributions of one sign, with the bias of that sign and the stabilizer."""
        same, other = signs
        if nonnegative:
            return _with_offset(op, x, same, bias, epsilon)
        return _with_offset(op, x.clamp(min=0), same, bias, epsilon).add_(op.apply(x.clamp(max=0), other, None))

    def backward(self, op: LinearOp, shape: Size, weight: Tensor, saved: list[Tensor], c: Tensor) -> Tensor:
        sign, *ratios = saved
        factors = (self.alpha, -self.beta)
        parts = [c * ratio for ratio in ratios]
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        to_positive = _sum(op.vjp(w * f, part, shape) for w, f, part in zip((up, down), factors, parts))
        if sign.numel() == 0:
            return to_positive
        to_negative = _sum(op.vjp(w * f, part, shape) for w, f, part in zip((down, up), factors, parts))
        return torch.where(sign > 0, to_positive, to_negative).masked_fill_(sign == 0, 0.0)


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    """Sum into the first tensor."""
    first, *others = tensors
    for other in others:
        first.add_(other)
    return first


@dataclass(frozen=True, eq=False)
class AlphaBeta(_TwoSided):
    """`alpha` times positive minus `beta` times negative contributions (Bach et al. 2015, eq. 60).

    Parameters
    ----------
    alpha : weight of the positive contributions; `alpha - beta = 1`, so that relevance is conserved.
    beta : weight of the negative contributions, >= 0.
    epsilon : stabilizer of both denominators, >= 0.
    zero_params : `("bias",)` leaves the bias out of the denominators.
    """

    alpha: float = 2.0
    beta: float = 1.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        if abs(self.alpha - self.beta - 1) > 1e-9:
            raise ValueError(f"alpha={self.alpha}, beta={self.beta}: alpha - beta must be 1")


@dataclass(frozen=True, eq=False)
class ZPlus(_TwoSided):
    """Only positive contributions: `AlphaBeta(1, 0)` (Montavon et al. 2017).

    Parameters
    ----------
    epsilon : stabilizer, >= 0.
    zero_params : `("bias",)` leaves the bias out of the denominator.
    """

    alpha: ClassVar[float] = 1.0
    beta: ClassVar[float] = 0.0
    epsilon: float = 1e-6
