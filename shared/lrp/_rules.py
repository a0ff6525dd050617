"""LRP rules of linear layers, in coefficient form (engine note, section 2; defaults as in zennit).

`z = W x + b` is the layer's true output, `c` the coefficient that arrives, `R = c z`, `V(W, s)` the transposed product,
`st(z) = z + epsilon sgn(z)`. A rule returns the true output and arranges what flows back to the input.
Explicit rules (Flat, WSquare, ZBox) send the relevance itself: they belong to the input layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Size, Tensor

from shared._checks import check_range
from shared.lrp._functions import scale_gradient, stabilize
from shared.lrp._ops import LinearOp


@dataclass(frozen=True, eq=False)
class Rule(ABC):
    """How a layer hands relevance down to its input; base of all rules.

    Parameters
    ----------
    zero_params : `("bias",)` leaves biases out of the denominators.

    Attributes
    ----------
    needs_weights : the rule works on linear layers only.
    explicit : what it sends is relevance instead of a coefficient, which only the input layer may do.

    Notes
    -----
    **How to write a rule.** The backward pass carries coefficients: a tensor `x` with coefficient `c` has relevance
    `x * c`. A layer computes `z = op.apply(x, weight, bias)`, gets `c` for z and owes one for x. Subclass, as a frozen
    dataclass whose fields are the rule's parameters, what fits:

    - `LinearRule` for linear and convolution layers: `forward` returns the true z and the tensors that backward needs;
      `backward` turns c into the coefficient of x by transposed products `op.vjp(weight, s, shape)`. Neither knows
      whether the layer is dense or a convolution.
    - `ElementwiseRule` for modules that keep the shape: `ratio` gives `c_x / c_y` at every element.
    - `Rule` itself where autograd already carries the right thing up to a factor: `apply` returns z with hooks on it
      (see `Epsilon`).

    Shares in proportion to squared contributions, `R_j = sum_k (x_j w_kj)^2 / sum_i (x_i w_ki)^2 R_k`:

    >>> @dataclass(frozen=True, eq=False)
    ... class Squared(LinearRule):
    ...     def forward(self, op, x, weight, bias):
    ...         z = op.apply(x, weight, bias)
    ...         return z, [x, z / stabilize(op.apply(x**2, weight**2, None), 1e-9)]
    ...     def backward(self, op, shape, weight, saved, c):
    ...         return saved[0] * op.vjp(weight**2, c * saved[1], shape)

    A composite then gives it to layers: `Composite([(AnyLinear, Squared())])`.
    """

    needs_weights: ClassVar[bool] = False
    explicit: ClassVar[bool] = False
    zero_params: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "zero_params", tuple(_listed(self.zero_params)))
        if not set(self.zero_params) <= {"bias"}:
            raise ValueError(f"zero_params={self.zero_params!r} is unknown; accepted: () or ('bias',)")
        for name in ("epsilon", "gamma", "alpha", "beta"):
            if hasattr(self, name):
                check_range(name, getattr(self, name), 0.0)

    @abstractmethod
    def apply(self, op: LinearOp, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """The layer's output with this rule attached to its backward pass.

        Parameters
        ----------
        op : what the layer computes, `op.apply(x, weight, bias)`; a module that isn't linear ignores the last two.
        x : the layer's input `(B, ...)`.
        weight : the layer's weight; None without.
        bias : the layer's bias; None without.

        Returns
        -------
        The true output, unchanged by the rule.
        """

    def _denominator_bias(self, op: LinearOp, bias: Tensor | None, z: Tensor) -> Tensor:
        if bias is None or "bias" in self.zero_params:
            return z.new_zeros(())
        return op.broadcast(bias, z)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else (value or ())


@dataclass(frozen=True, eq=False)
class LinearRule(Rule):
    """Base of rules with a backward pass of their own, for linear and convolution layers.

    Parameters
    ----------
    zero_params : as in `Rule`.
    """

    needs_weights: ClassVar[bool] = True

    def apply(self, op: LinearOp, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return _Propagate.apply(x, self, op, weight, bias)

    @abstractmethod
    def forward(self, op: LinearOp, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """The true output `z` and the tensors that `backward` needs; called without a graph."""

    @abstractmethod
    def backward(self, op: LinearOp, shape: Size, weight: Tensor, saved: list[Tensor], c: Tensor) -> Tensor:
        """Coefficient of x (relevance of x if the rule is `explicit`) from that of z, `c`; `shape` is that of x."""


@dataclass(frozen=True, eq=False)
class ElementwiseRule(Rule):
    """Base of rules for modules that keep the shape and mix no elements: `c_x = ratio(x, y) c_y`.

    Parameters
    ----------
    zero_params : as in `Rule`; without effect.
    """

    def apply(self, op: LinearOp, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return _Scale.apply(x, self, op, weight, bias)

    @abstractmethod
    def ratio(self, x: Tensor, y: Tensor) -> Tensor:
        """What the coefficient is multiplied by on its way from the output to the input.

        Parameters
        ----------
        x : the module's input.
        y : its output, of the same shape.

        Returns
        -------
        The factor at every element.
        """


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


class _Scale(torch.autograd.Function):
    """Multiplies the coefficient by a rule's `ratio`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rule: Any, op: LinearOp, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        y = op.apply(x, weight, bias)
        ctx.save_for_backward(rule.ratio(x, y))
        return y

    @staticmethod
    def backward(ctx: Any, c: Tensor) -> tuple[Tensor, None, None, None, None]:
        (ratio,) = ctx.saved_tensors
        return c * ratio, None, None, None, None


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
        return _safe_ratio(y, x)


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


class _TwoSided(LinearRule):
    """`alpha` times positive minus `beta` times negative contributions, each over its own sum."""

    alpha: float
    beta: float
    epsilon: float

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


@dataclass(frozen=True, eq=False)
class _InputRule(LinearRule):
    explicit: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class Flat(_InputRule):
    """Equal shares over the receptive field: Epsilon with `x := 1, W := 1, b := 0`. Input layer only.

    Parameters
    ----------
    epsilon : stabilizer, >= 0.
    zero_params : without effect.
    """

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
    """Shares in proportion to squared weights: `x := 1, W := W^2, b := b^2`. Input layer only.

    Parameters
    ----------
    epsilon : stabilizer, >= 0.
    zero_params : `("bias",)` takes b = 0.
    """

    def _stand_in(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        keep = bias is not None and "bias" not in self.zero_params
        return weight**2, bias**2 if keep else None


@dataclass(frozen=True, eq=False)
class ZBox(_InputRule):
    """z^B for pixels in `[low, high]` (Montavon et al. 2017). Input layer only.

    Parameters
    ----------
    low, high : bounds in the model's normalised units, scalars or tensors that broadcast to the input, such as
        `(1, C, 1, 1)`; low <= high.
    epsilon : stabilizer, >= 0.
    zero_params : without effect.
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
