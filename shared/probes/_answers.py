"""Probes that judge answers: a threshold from benign ones, and what holds within pairs of instructions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shared._checks import check_array, check_finite, check_range
from shared.probes._inputs import as_labels
from shared.stats import auroc


def flag_threshold(benign: Tensor, *, false_positives: float = 0.01) -> float:
    """The lowest threshold above which at most a share of benign scores lies (Goldowsky-Dill et al. 2025, 1 %).

    Parameters
    ----------
    benign : (n,), scores of answers that should not be flagged.
    false_positives : largest share of them above the threshold.

    Returns
    -------
    One of the scores; what is flagged is larger.
    """
    check_array("benign", benign, ("n",))
    check_finite("benign", benign)
    check_range("false_positives", false_positives, 0, 1)
    ordered = benign.sort(descending=True).values
    if not len(ordered):
        raise ValueError("benign is empty; a threshold needs scores")
    return float(ordered[min(math.floor(false_positives * len(ordered)), len(ordered) - 1)])


def group_auroc(scores: Tensor, y: Tensor, groups: Tensor) -> Tensor:
    """AUROC within each group, for instance each pair of instructions.

    Parameters
    ----------
    scores : (n,).
    y : labels 0 or 1 (n,).
    groups : whole numbers (n,).

    Returns
    -------
    (g,), in the order of the sorted groups; NaN for a group of one class only.
    """
    check_array("scores", scores, ("n",))
    check_finite("scores", scores)
    labels, _ = as_labels(_column("y", y, len(scores)), scores[:, None])
    _column("groups", groups, len(scores))
    parts = [groups == group for group in groups.unique()]
    return torch.stack([auroc(scores[part], labels[part, 0]) for part in parts])


def flip_groups(y: Tensor, groups: Tensor, *, generator: torch.Generator) -> Tensor:
    """Labels with half of the groups turned round, drawn by chance: a null that keeps pairs and class sizes.

    Parameters
    ----------
    y : labels 0 or 1 (n,).
    groups : whole numbers (n,).
    generator : on the CPU.

    Returns
    -------
    (n,), as `y`.
    """
    check_array("y", y, ("n",))
    labels, _ = as_labels(y, y[:, None])
    names, place = _column("groups", groups, len(y)).unique(return_inverse=True)
    turned = torch.randperm(len(names), generator=generator) < len(names) // 2
    return torch.where(turned.to(place.device)[place], 1 - labels[:, 0], labels[:, 0]).to(y.dtype)


def _column(argument: str, value: Tensor, n: int) -> Tensor:
    check_array(argument, value, (n,))
    return value
