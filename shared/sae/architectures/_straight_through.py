"""JumpReLU and the step behind its L0 penalty, with straight-through gradients for the thresholds.

Both are flat in the threshold almost everywhere. A rectangle kernel of width ε gives the expected gradient
(Rajamanoharan et al. 2024, equations 11 and 12):
`d jump / dθ = -θ/ε · rect((z - θ)/ε)`, `d step / dθ = -1/ε · rect((z - θ)/ε)`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def _rect(z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    return (((z - threshold) / bandwidth).abs() < 0.5).to(z)


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return z * (z > threshold)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        z, threshold = ctx.saved_tensors
        to_threshold = -(threshold / ctx.bandwidth) * (_rect(z, threshold, ctx.bandwidth) * grad)
        return grad * (z > threshold), to_threshold.flatten(0, -2).sum(0), None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).to(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        z, threshold = ctx.saved_tensors
        to_threshold = -(1 / ctx.bandwidth) * (_rect(z, threshold, ctx.bandwidth) * grad)
        return None, to_threshold.flatten(0, -2).sum(0), None


def jump_relu(z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """`z` where it is above `threshold` `(d_sae,)`, else 0; the gradient in z is 0 below the threshold."""
    return _Jump.apply(z, threshold, bandwidth)


def step(z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """1 where z `(…, d_sae)` is above `threshold`, else 0; no gradient in z."""
    return _Step.apply(z, threshold, bandwidth)
