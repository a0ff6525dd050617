"""Localisation: how relevance over features agrees with a known set of features that decide the output.

All functions take relevance (B, F), signed, and truth (B, F), bool, and return one score per row, (B,), float64.
`among`, (B, F), bool, restricts ranking and sums to some features, e.g. all but padding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared._checks import check_finite, check_range, check_shape


def top_k_hit(relevance: Tensor, truth: Tensor, k: int = 1, among: Tensor | None = None) -> Tensor:
    """1 where one of the k most relevant features is a true one, else 0 (pointing game); ties go to the first."""
    relevance, truth = _prepare(relevance, truth, among)
    check_range("k", k, 1, relevance.shape[1])
    best = relevance.argsort(dim=1, descending=True, stable=True)[:, :k]
    return truth.gather(1, best).any(1).double()


def reciprocal_rank(relevance: Tensor, truth: Tensor, among: Tensor | None = None) -> Tensor:
    """1 / rank of the most relevant true feature; features of equal relevance share their mean rank."""
    relevance, truth = _prepare(relevance, truth, among)
    best = relevance.masked_fill(~truth, -torch.inf).amax(1, keepdim=True)
    above, equal = (relevance > best).sum(1), (relevance == best).sum(1)
    return 1 / (above + (equal + 1).double() / 2)


def average_precision(relevance: Tensor, truth: Tensor, among: Tensor | None = None) -> Tensor:
    """Mean over true features of the share of true ones among those ranked as high or higher (`among` left out)."""
    relevance, truth = _prepare(relevance, truth, among)
    as_high = relevance[:, None, :] >= relevance[:, :, None]  # (B, F, F): is column at least as relevant as row?
    precision = (as_high & truth[:, None, :]).sum(2).double() / as_high.sum(2)
    return (precision * truth).sum(1) / truth.sum(1)


def positive_share(relevance: Tensor, truth: Tensor, among: Tensor | None = None) -> Tensor:
    """Share of the true features whose relevance is positive."""
    relevance, truth = _prepare(relevance, truth, among)
    return ((relevance > 0) & truth).sum(1).double() / truth.sum(1)


def relevance_mass(relevance: Tensor, truth: Tensor, among: Tensor | None = None) -> Tensor:
    """Share of the positive relevance that falls on true features (relevance mass accuracy); 0 if none is positive.

    Arras et al. 2022, "CLEVR-XAI" (Information Fusion 81).
    """
    relevance, truth = _prepare(relevance, truth, among)
    positive = relevance.clamp(min=0).nan_to_num(neginf=0.0)
    total = positive.sum(1)
    return torch.where(total > 0, (positive * truth).sum(1) / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)


def intersection_over_union(
    relevance: Tensor, truth: Tensor, threshold: float = 0.5, among: Tensor | None = None
) -> Tensor:
    """IoU of the truth with the features whose relevance exceeds `threshold` times the row's largest (if positive)."""
    check_range("threshold", threshold, 0, 1)
    relevance, truth = _prepare(relevance, truth, among)
    largest = relevance.amax(1, keepdim=True)
    chosen = (relevance > threshold * largest) & (largest > 0)
    return (chosen & truth).sum(1).double() / (chosen | truth).sum(1)


def _prepare(relevance: Tensor, truth: Tensor, among: Tensor | None) -> tuple[Tensor, Tensor]:
    check_shape("relevance", relevance, ("B", "F"))
    check_shape("truth", truth, tuple(relevance.shape))
    check_finite("relevance", relevance)
    relevance, truth = relevance.detach().double(), truth.to(relevance.device, torch.bool)
    if among is not None:
        check_shape("among", among, tuple(relevance.shape))
        among = among.to(relevance.device, torch.bool)
        relevance, truth = relevance.masked_fill(~among, -torch.inf), truth & among
    empty = (~truth.any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"truth has no true feature in row {empty[0]} ({len(empty)} such rows); each row needs one")
    return relevance, truth
