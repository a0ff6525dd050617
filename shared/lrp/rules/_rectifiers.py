"""Rules of ReLUs that change the gradient itself: guided backpropagation, deconvolution, smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shared.lrp.rules._base import ElementwiseRule, Rule
from shared.lrp.rules._ops import LinearOp


@dataclass(frozen=True, eq=False)
class GuidedReLU(Rule):
    """The gradient passes where it and the unit are positive (Springenberg et al. 2015).

    Parameters
    ----------
    zero_params : without effect.
    """

    def apply(self, op: LinearOp, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        y = op.apply(x, weight, bias)
        if y.requires_grad:
            y.register_hook(lambda c: c.clamp(min=0))
        return y


@dataclass(frozen=True, eq=False)
class DeconvReLU(Rule):
    """The gradient's positive part passes, whatever the unit does (Zeiler & Fergus 2014).

    Parameters
    ----------
    zero_params : without effect.
    """

    def apply(self, op: LinearOp, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return _Deconvolve.apply(x, op, weight, bias)


class _Deconvolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, op: LinearOp, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return op.apply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, c: Tensor) -> tuple[Tensor, None, None, None]:
        return c.clamp(min=0), None, None, None


@dataclass(frozen=True, eq=False)
class SmoothReLU(ElementwiseRule):
    """The gradient of `softplus(beta x) / beta` in place of ReLU's step (Dombrowski et al. 2019).

    Parameters
    ----------
    beta : sharpness, >= 0; towards infinity it is the plain gradient.
    zero_params : without effect.
    """

    beta: float = 10.0

    def ratio(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(self.beta * x)
