"""What a rule is: the slots it fills, and how they enter a layer's backward pass.

`z = W x + b` is the layer's true output, `c` the coefficient that arrives, `R = c z`, `V(W, s)` the transposed product,
`st(z) = z + epsilon sgn(z)`. A rule returns the true output and arranges what flows back to the input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Size, Tensor

from shared._checks import check_range
from shared.lrp.rules._functions import scale_gradient, stabilize
from shared.lrp.rules._ops import LinearOp


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

    def _denominator_bias(self, bias: Tensor | None) -> Tensor | None:
        return None if "bias" in self.zero_params else bias


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


def attach_stabilizer(z: Tensor, epsilon: float, denominator: Tensor | None = None) -> Tensor:
    """Scale the coefficient at `z` by `z / st(denominator)`; the denominator is z itself unless given."""
    if not z.requires_grad or (epsilon == 0 and denominator is None):
        return z
    with torch.no_grad():
        if denominator is None:
            size = z.abs()
            ratio = size.div_(size + epsilon)  # = z / (z + epsilon sgn z)
        else:
            ratio = safe_ratio(z, stabilize(denominator, epsilon), epsilon)
    return scale_gradient(z, ratio)


def safe_ratio(numerator: Tensor, denominator: Tensor, epsilon: float = 0.0, into: Tensor | None = None) -> Tensor:
    """numerator / denominator, 0 where the denominator is 0 (nothing to distribute over); `into` is overwritten.

    A stabilizer `epsilon` that the denominator holds keeps it from 0, unless the precision can't tell it from 0.
    """
    if epsilon > torch.finfo(denominator.dtype).tiny:
        return torch.div(numerator, denominator, out=into)
    zero = denominator == 0
    return torch.div(numerator, denominator, out=into).masked_fill_(zero, 0.0)
