"""Data with a known flaw, so that there is a right answer: wrong labels, marks, groups of classes, subsets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shared._checks import check_range, check_shape


def flip_labels(y: Tensor, share: float, n_classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Labels (N,) of which `share` are replaced by another class at random, and which were: bool (N,)."""
    check_range("share", share, 0.0, 1.0)
    check_range("n_classes", n_classes, 2)
    rows = torch.randperm(len(y), generator=generator)[: round(share * len(y))]
    flipped = torch.zeros(len(y), dtype=torch.bool)
    flipped[rows] = True
    other = torch.randint(1, n_classes, (len(y),), generator=generator)
    return torch.where(flipped, (y + other) % n_classes, y), flipped


def group_labels(y: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """The number of the group that each label (N,) is in."""
    table = torch.full((int(y.max()) + 1,), -1)
    for number, group in enumerate(groups):
        table[[c for c in group if c < len(table)]] = number
    if bool((table[y] < 0).any()):
        raise ValueError(f"groups has no place for class {sorted(set(y[table[y] < 0].tolist()))}")
    return table[y]


def add_mark(x: Tensor, rows: Tensor, *, frame: int = 2, square: int = 6, value: float = 1.0) -> Tensor:
    """A copy of images (N, C, H, W) with DualXDA's mark on those in `rows` (N,) bool: a frame and a centre square."""
    check_shape("rows", rows, (len(x),))
    H, W = x.shape[-2:]
    check_range("square", square, 0, min(H, W))
    mask = mark_mask(H, W, frame, square)
    return torch.where(rows[:, None, None, None] & mask, value, x)


def mark_mask(H: int, W: int, frame: int = 2, square: int = 6) -> Tensor:
    """Where the mark is: bool (H, W)."""
    mask = torch.ones(H, W, dtype=torch.bool)
    mask[frame : H - frame, frame : W - frame] = False
    top, left = (H - square) // 2, (W - square) // 2
    mask[top : top + square, left : left + square] = True
    return mask


def random_subsets(n: int, m: int, share: float, generator: torch.Generator) -> Tensor:
    """m random subsets of n points, each of `share` n: bool (m, n)."""
    check_range("share", share, 0.0, 1.0)
    order = torch.rand(m, n, generator=generator).argsort(1)
    return torch.zeros(m, n, dtype=torch.bool).scatter_(1, order[:, : int(share * n)], True)
