"""Data with a known flaw, so that there is a right answer: wrong labels, marks, groups of classes, foreign images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared._checks import check_array, check_choice, check_range, check_shape

FLAWS = ("standard", "groups", "wrong labels", "mark")


@dataclass(frozen=True)
class FlawedData:
    """Training and test images with a flaw that is known, by `plant_flaw`.

    Parameters
    ----------
    x, y : Tensor
        Training images `(N, C, H, W)` and the labels to train with `(N,)`.
    tests : Tensor
        Test images `(T, C, H, W)`.
    n_classes : int
        Of the labels.
    truth : Tensor of bool, or None
        Which training images are flawed `(N,)`, where images are.
    """

    x: Tensor
    y: Tensor
    tests: Tensor
    n_classes: int
    truth: Tensor | None


def plant_flaw(
    x: Tensor,
    y: Tensor,
    tests: Tensor,
    flaw: str,
    *,
    n_classes: int,
    generator: torch.Generator,
    share: float = 0.3,
    marked_class: int = 2,
) -> FlawedData:
    """DualXDA's four settings (Yolcu et al. 2025): nothing, classes merged in pairs, wrong labels, or a shortcut.

    Parameters
    ----------
    x, y, tests : Tensor
        Training images `(N, C, H, W)`, their classes `(N,)`, test images.
    flaw : str
        One of `FLAWS`; "mark" marks a share of one class's training images and all test images.
    n_classes : int
    generator : torch.Generator
        Draws which labels are wrong, and which images are marked.
    share : float
        Of the labels that become wrong, or of the class that is marked.
    marked_class : int

    Returns
    -------
    FlawedData
    """
    check_range("n_classes", n_classes, 1)
    check_array("x", x, ("N", "C", "H", "W"))
    check_array("tests", tests, ("T", *x.shape[1:]))
    _check_labels(y)
    check_shape("y", y, (len(x),))
    check_choice("flaw", flaw, FLAWS)
    if flaw == "groups":
        pairs = [list(range(n_classes))[c : c + 2] for c in range(0, n_classes, 2)]
        return FlawedData(x, group_labels(y, pairs), tests, len(pairs), None)
    if flaw == "wrong labels":
        labels, flipped = flip_labels(y, share, n_classes, generator=generator)
        return FlawedData(x, labels, tests, n_classes, flipped)
    if flaw == "mark":
        check_range("share", share, 0.0, 1.0)
        marked = (y == marked_class) & (torch.rand(len(y), generator=generator) < share)
        everywhere = torch.ones(len(tests), dtype=torch.bool)
        return FlawedData(add_mark(x, marked), y, add_mark(tests, everywhere), n_classes, marked)
    return FlawedData(x, y, tests, n_classes, None)


def flip_labels(y: Tensor, share: float, n_classes: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Replace a share of labels by another class at random.

    Parameters
    ----------
    y : Tensor of int, shape (N,)
    share : float in [0, 1]
    n_classes : int
    generator : torch.Generator

    Returns
    -------
    labels : Tensor, shape (N,)
    flipped : Tensor of bool, shape (N,)
        Which were replaced.

    Raises
    ------
    ValueError
        For labels that aren't classes, and a share out of range.
    """
    _check_labels(y)
    check_range("share", share, 0.0, 1.0)
    check_range("n_classes", n_classes, 2)
    rows = torch.randperm(len(y), generator=generator)[: round(share * len(y))]
    flipped = torch.zeros(len(y), dtype=torch.bool)
    flipped[rows] = True
    other = torch.randint(1, n_classes, (len(y),), generator=generator)
    return torch.where(flipped, (y + other) % n_classes, y), flipped


def group_labels(y: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """The number of the group that each label is in: several classes made one.

    Parameters
    ----------
    y : Tensor of int, shape (N,)
    groups : sequence of sequences of int
        Classes of each group.

    Returns
    -------
    Tensor of int64, shape (N,)

    Raises
    ------
    ValueError
        For a class that no group has.
    """
    _check_labels(y)
    table = torch.full((int(y.max()) + 1,), -1)
    for number, group in enumerate(groups):
        table[[c for c in group if c < len(table)]] = number
    if bool((table[y] < 0).any()):
        raise ValueError(f"groups has no place for class {sorted(set(y[table[y] < 0].tolist()))}")
    return table[y]


def add_foreign(x: Tensor, y: Tensor, foreign: Tensor, label: int) -> tuple[Tensor, Tensor, Tensor]:
    """Append images of another source, all under one label: Quanda's mixed data sets (Bareeva et al. 2024).

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
    y : Tensor of int, shape (N,)
    foreign : Tensor, shape (M, C, H, W)
        Images of the other source, of the same size.
    label : int
        The class that all of them get, one of y's.

    Returns
    -------
    x : Tensor, shape (N + M, C, H, W)
    labels : Tensor, shape (N + M,)
    truth : Tensor of bool, shape (N + M,)
        Which are foreign.

    Raises
    ------
    ValueError
        For foreign data of another shape, and a label that no other point has.
    """
    check_array("x", x, ("N", "C", "H", "W"))
    _check_labels(y)
    check_shape("y", y, (len(x),))
    check_array("foreign", foreign, ("M", *x.shape[1:]))
    if label not in y:
        raise ValueError(f"label={label} is no class of y, which has {sorted(set(y.tolist()))}")
    truth = torch.arange(len(x) + len(foreign), device=x.device) >= len(x)
    return torch.cat([x, foreign.to(x)]), torch.cat([y, y.new_full((len(foreign),), label)]), truth


def add_mark(x: Tensor, rows: Tensor, *, frame: int = 2, square: int = 6, value: float = 1.0) -> Tensor:
    """Copy images with DualXDA's mark on some: a frame and a centre square.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
    rows : Tensor of bool, shape (N,)
        Which images are marked.
    frame, square : int
        Width of the frame and side of the square, in pixels.
    value : float
        Of the marked pixels.

    Returns
    -------
    Tensor, shape (N, C, H, W)
    """
    check_array("x", x, ("N", "C", "H", "W"))
    check_array("rows", rows, (len(x),))
    height, width = x.shape[-2:]
    mask = mark_mask(height, width, frame=frame, square=square)
    return torch.where(rows[:, None, None, None] & mask, value, x)


def mark_mask(height: int, width: int, *, frame: int = 2, square: int = 6) -> Tensor:
    """Where `add_mark` puts its mark.

    Parameters
    ----------
    height, width : int
    frame, square : int
        Width of the frame and side of the square, in pixels.

    Returns
    -------
    Tensor of bool, shape (height, width)
    """
    check_range("frame", frame, 0)
    check_range("square", square, 0, min(height, width))
    mask = torch.ones(height, width, dtype=torch.bool)
    mask[frame : height - frame, frame : width - frame] = False
    top = (height - square) // 2
    left = (width - square) // 2
    mask[top : top + square, left : left + square] = True
    return mask


def _check_labels(y: Tensor) -> None:
    check_array("y", y, ("N",))
    if y.is_floating_point() or y.is_complex() or bool((y < 0).any()):
        raise ValueError(f"y has dtype {y.dtype} and least value {y.min().item()}; expected classes from 0, integers")
