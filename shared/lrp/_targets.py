"""What is explained: targets as weights of the logits, and the seed of the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_choice

INITS = ("logit", "one", "softmax-contrast")


@dataclass(frozen=True)
class _Against:
    """Weights +1 at the target and -1 at the foil, or, without one, -1/C everywhere."""

    target: int | Tensor
    foil: int | Tensor | None

    def __call__(self, logits: Tensor) -> Tensor:
        chosen = one_hot(self.target, logits)
        if self.foil is None:
            return chosen - 1.0 / logits.shape[-1]
        return chosen - one_hot(self.foil, logits, name="foil")

    def rows(self, rows: slice, total: int) -> _Against:
        """The same for some of the rows."""
        return _Against(rows_of("target", self.target, rows, total), rows_of("foil", self.foil, rows, total))


def rows_of(name: str, value: Any, rows: slice, total: int) -> Any:
    """A value with one entry per row, for some of the `total` rows; what isn't one stays."""
    if hasattr(value, "rows"):
        return value.rows(rows, total)
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    if len(value) != total:
        raise ValueError(f"{name} has {len(value)} entries for a batch of {total}")
    return value[rows]


def contrast(target: int | Tensor, foil: int | Tensor) -> Callable[[Tensor], Tensor]:
    """Explain `z_target - z_foil`.

    Parameters
    ----------
    target : class that gets weight +1, an int or a LongTensor `(B,)`.
    foil : class that gets weight -1, likewise.

    Returns
    -------
    A target for `attribute`: logits `(B, C)` -> their weights.
    """
    return _Against(target, foil)


def zero_mean(target: int | Tensor) -> Callable[[Tensor], Tensor]:
    """Explain `z_target - mean(z)`: what lifts the target above the average class.

    Parameters
    ----------
    target : the class, an int or a LongTensor `(B,)`.

    Returns
    -------
    A target for `attribute`: logits `(B, C)` -> their weights.
    """
    return _Against(target, None)


@dataclass(frozen=True)
class _Answer:
    """The logits of the last A tokens, each at the position before it, side by side `(B, A * V)`."""

    tokens: Tensor

    def output(self, outputs: Any) -> Tensor:
        """What `attribute` explains of the model's output."""
        logits = outputs if isinstance(outputs, Tensor) else outputs.logits
        count = self.tokens.shape[-1]
        if logits.ndim != 3 or logits.shape[1] <= count:
            raise ValueError(
                f"answer has {count} tokens; logits of shape {tuple(logits.shape)} must be (B, S, V), S > A"
            )
        return logits[:, -count - 1 : -1].flatten(1)

    def __call__(self, logits: Tensor) -> Tensor:
        tokens = torch.atleast_2d(self.tokens).to(logits.device)
        size = logits.shape[1] // tokens.shape[1]
        if len(tokens) not in (1, len(logits)) or int(tokens.max()) >= size:
            raise ValueError(
                f"answer has shape {tuple(tokens.shape)} and tokens up to {int(tokens.max())} for a batch of "
                f"{len(logits)} and {size} logits"
            )
        one_hots = torch.nn.functional.one_hot(tokens.clamp(min=0), size) * (tokens >= 0)[..., None]
        return one_hots.flatten(1).to(logits).expand(len(logits), -1)

    def rows(self, rows: slice, total: int) -> _Answer:
        """The same for some of the rows."""
        return self if self.tokens.ndim == 1 else _Answer(rows_of("answer", self.tokens, rows, total))


def answer(tokens: Tensor) -> Callable[[Tensor], Tensor]:
    """Explain an answer of several tokens: the sum of their logits, each given those before it.

    The input holds the prompt and behind it the answer, as the last tokens of every row.

    Parameters
    ----------
    tokens : LongTensor `(B, A)`, or `(A,)` for all rows; negative entries, such as -100, don't count.

    Returns
    -------
    A target for `attribute` on a causal language model; `output` is then its own.

    Raises
    ------
    ValueError
        No whole numbers, or none that counts.
    """
    if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.ndim not in (1, 2) or tokens.numel() == 0:
        raise ValueError(f"tokens must be a LongTensor (B, A) or (A,); got {tokens!r}")
    if not bool((torch.atleast_2d(tokens) >= 0).any(1).all()):
        raise ValueError("tokens: a row has no token that counts (all are negative)")
    return _Answer(tokens)


def one_hot(target: int | Tensor, logits: Tensor, *, name: str = "target") -> Tensor:
    """Weights `(B, C)`: 1 at each row's target class. Raises `ValueError` for a wrong shape or a class out of range."""
    index = torch.as_tensor(target, device=logits.device)
    if logits.ndim != 2:
        raise ValueError(f"{name}={target!r} needs logits of shape (B, C); got {tuple(logits.shape)}: give a callable")
    if index.is_floating_point() or index.dtype == torch.bool or index.ndim > 1:
        raise ValueError(f"{name} must be an int or a LongTensor (B,); got {index.dtype} of shape {tuple(index.shape)}")
    batch, classes = logits.shape
    if index.ndim == 1 and index.shape[0] != batch:
        raise ValueError(f"{name} has {index.shape[0]} entries for a batch of {batch}")
    if int(index.min()) < -classes or int(index.max()) >= classes:
        raise ValueError(f"{name}={target!r} is out of range for {classes} classes")
    index = (index % classes).expand(batch)
    return torch.zeros_like(logits).scatter_(1, index[:, None], 1.0)


def weights_of(target: Any, logits: Tensor) -> Tensor:
    """The target as weights of the logits.

    Parameters
    ----------
    target : as for `attribute`; None means each row's largest logit.
    logits : `(B, C)`.

    Returns
    -------
    Weights in the logits' shape and dtype.

    Raises
    ------
    ValueError
        A class out of range, or weights of another shape.
    """
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
