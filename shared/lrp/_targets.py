"""What is explained: targets as weights of the logits, and the seed of the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_choice

INITS = ("logit", "one", "softmax-contrast")
Target = "int | Tensor | Callable[[Tensor], Tensor] | None"


def contrast(target: int | Tensor, foil: int | Tensor) -> Callable[[Tensor], Tensor]:
    """Explain `z_target - z_foil`: weights +1 and -1. Ints, or LongTensors `(B,)`."""
    return lambda logits: one_hot(target, logits) - one_hot(foil, logits)


def zero_mean(target: int | Tensor) -> Callable[[Tensor], Tensor]:
    """Explain `z_target - mean(z)`: what lifts the target above the average class."""
    return lambda logits: one_hot(target, logits) - 1.0 / logits.shape[-1]


def one_hot(target: int | Tensor, logits: Tensor) -> Tensor:
    """Weights `(B, C)`: 1 at each row's target class. Raises `ValueError` for a wrong shape or a class out of range."""
    index = torch.as_tensor(target, device=logits.device)
    if logits.ndim != 2:
        raise ValueError(f"target={target!r} needs logits of shape (B, C); got {tuple(logits.shape)}: give a callable")
    if index.is_floating_point() or index.dtype == torch.bool or index.ndim > 1:
        raise ValueError(f"target must be an int or a LongTensor (B,); got {index.dtype} of shape {tuple(index.shape)}")
    batch, classes = logits.shape
    if index.ndim == 1 and index.shape[0] != batch:
        raise ValueError(f"target has {index.shape[0]} entries for a batch of {batch}")
    if int(index.min()) < -classes or int(index.max()) >= classes:
        raise ValueError(f"target={target!r} is out of range for {classes} classes")
    index = (index % classes).expand(batch)
    return torch.zeros_like(logits).scatter_(1, index[:, None], 1.0)


def weights_of(target: Any, logits: Tensor) -> Tensor:
    """The target as weights of the logits' shape; None means each row's largest logit."""
    if target is None:
        return one_hot(logits.argmax(-1), logits)
    if callable(target):
        weights = torch.as_tensor(target(logits))
    elif isinstance(target, Tensor) and target.is_floating_point():
        weights = target
    else:
        return one_hot(target, logits)
    if weights.shape != logits.shape:
        raise ValueError(f"target weights have shape {tuple(weights.shape)}; the logits have {tuple(logits.shape)}")
    return weights.to(logits)


def seed(target: Any, logits: Tensor, init: str) -> Tensor:
    """Coefficient at the logits, so that `R = logits * seed`.

    "logit": R is the explained logit (or weighted sum). "one": R sums to 1 on the target. "softmax-contrast": weight 1
    on the target and -1/N on the other N classes, for models whose logits are all negative.
    """
    check_choice("init", init, INITS)
    weights = weights_of(target, logits)
    if init == "one":
        total = (weights * logits).sum(-1, keepdim=True)
        if bool((total == 0).any()):
            raise ValueError('init="one" divides by the explained logit, which is 0 for some row')
        return weights / total
    if init == "softmax-contrast":
        others = max(logits.shape[-1] - 1, 1)
        return weights - (1 - weights) / others
    return weights
