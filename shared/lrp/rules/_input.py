"""Rules of the input layer, which send relevance itself instead of a coefficient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Size, Tensor

from shared.lrp.rules._base import LinearRule, safe_ratio
from shared.lrp.rules._functions import stabilize
from shared.lrp.rules._ops import LinearOp


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
        return z, [safe_ratio(z, stabilize(share, self.epsilon), self.epsilon), stand_in]

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
        box = z - (op.apply(low, up, bias) + op.apply(high, down, None))  # the biases cancel
        return z, [x, low, high, safe_ratio(z, stabilize(box, self.epsilon), self.epsilon)]

    def backward(self, op: LinearOp, shape: Size, weight: Tensor, saved: list[Tensor], c: Tensor) -> Tensor:
        x, low, high, ratio = saved
        s = c * ratio
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        parts = [op.vjp(w, s, shape) for w in (weight, up, down)]
        return parts[0].mul_(x).sub_(parts[1].mul_(low)).sub_(parts[2].mul_(high))
