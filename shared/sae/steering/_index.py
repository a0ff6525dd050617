"""Indices of latents, checked."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def as_index(features: int | Iterable[int]) -> Tensor:
    """Indices as int64 `(n,)`, none of them negative."""
    given = [features] if isinstance(features, int) else list(features)
    if bad := [j for j in given if isinstance(j, bool | float) or int(j) != j or int(j) < 0]:
        raise ValueError(f"features holds {bad[0]!r}; expected indices from 0")
    return torch.tensor([int(j) for j in given], dtype=torch.int64)


def within(index: Tensor, codes: Tensor) -> Tensor:
    """The same indices, none beyond the last axis of `codes`."""
    width = codes.shape[-1]
    if len(index) and int(index.max()) >= width:
        raise ValueError(f"feature {int(index.max())} is out of range; there are {width}, from 0 to {width - 1}")
    return index
