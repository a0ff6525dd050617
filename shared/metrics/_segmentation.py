"""Segmentation against known labels: intersection over union by class, and its mean."""

from __future__ import annotations

import torch
from torch import Tensor

from shared._checks import check_finite, check_range, check_shape, wide


def class_iou(predicted: Tensor, target: Tensor, n_classes: int, *, ignore: int = -1) -> Tensor:
    """IoU of each class over all pixels together.

    Parameters
    ----------
    predicted, target : int64
        Classes from 0 to n_classes − 1, of any one shape.
    n_classes : int
        At least 1.
    ignore : int
        Places with this target don't count.

    Returns
    -------
    (n_classes,) float64
        NaN for a class in neither.

    Raises
    ------
    ValueError
        For shapes that differ, no place that counts, and classes out of range.
    """
    check_range("n_classes", n_classes, 1)
    check_finite("predicted", predicted)
    check_finite("target", target)
    check_shape("predicted", predicted, tuple(target.shape))
    counts = target != ignore
    predicted = predicted[counts]
    target = target[counts]
    if len(target) == 0:
        raise ValueError(f"target has no place that counts (all are ignore={ignore})")
    for name, value in (("predicted", predicted), ("target", target)):
        if value.is_floating_point() or int(value.min()) < 0 or int(value.max()) >= n_classes:
            raise ValueError(
                f"{name} must hold whole numbers from 0 to {n_classes - 1}; it has {value.min()} to {value.max()}"
            )
    table = wide(torch.bincount(target * n_classes + predicted, minlength=n_classes**2).view(n_classes, n_classes))
    both = table.diagonal()
    either = table.sum(0) + table.sum(1) - both
    return both / torch.where(either > 0, either, torch.nan)


def miou(predicted: Tensor, target: Tensor, n_classes: int, *, ignore: int = -1) -> float:
    """Mean of `class_iou` over the classes that occur in the target or the prediction.

    Parameters
    ----------
    predicted, target : int64
        Classes from 0 to n_classes − 1, of any one shape.
    n_classes : int
        At least 1.
    ignore : int
        Places with this target don't count.

    Returns
    -------
    float
        From 0 to 1, higher is better.

    Raises
    ------
    ValueError
        As `class_iou`.
    """
    return float(class_iou(predicted, target, n_classes, ignore=ignore).nanmean())
