"""Localisation: how relevance over features agrees with a known set of features that decide the output.

All functions take relevance (B, F), signed, and truth (B, F), bool, and return one score per row, (B,), float64.
`among`, (B, F), bool, restricts ranking and sums to some features, e.g. all but padding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared import stats
from shared._checks import check_array, check_range, wide


def top_k_hit(relevance: Tensor, truth: Tensor, *, k: int = 1, among: Tensor | None = None) -> Tensor:
    """1 where one of the k most relevant features is a true one, else 0 (pointing game); the chance of it with ties.

    Parameters
    ----------
    relevance : (B, F) float
        Signed; of equal ones each is as likely to be among the k.
    truth : (B, F) bool
        The features that decide; at least one per row.
    k : int
        From 1 to F.
    among : (B, F) bool, optional
        Features that are ranked; all by default.

    Returns
    -------
    (B,) float64
        Higher is better.

    Raises
    ------
    ValueError
        For shapes that differ, NaN or infinity, rows without a true feature, k out of range.
    """
    relevance, truth = _prepare(relevance, truth, among)
    check_range("k", k, 1, relevance.shape[1])
    least = relevance.topk(k, dim=1).values[:, -1:]
    above, tied = relevance > least, relevance == least
    drawn, false = k - above.sum(1), (tied & ~truth).sum(1)
    misses = torch.exp(_log_choose(false, drawn) - _log_choose(tied.sum(1), drawn))  # no true one among those drawn
    return torch.where((above & truth).any(1), 1.0, 1 - torch.where(false < drawn, 0.0, misses))


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    n, k = wide(n), wide(k)
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma((n - k).clamp(min=0) + 1)


def reciprocal_rank(relevance: Tensor, truth: Tensor, *, among: Tensor | None = None) -> Tensor:
    """1 / rank of the most relevant true feature; features of equal relevance share their mean rank.

    Parameters
    ----------
    relevance : (B, F) float
        Signed.
    truth : (B, F) bool
        The features that decide; at least one per row.
    among : (B, F) bool, optional
        Features that are ranked; all by default.

    Returns
    -------
    (B,) float64
        Higher is better, 1 the best.

    Raises
    ------
    ValueError
        For shapes that differ, NaN or infinity, rows without a true feature.
    """
    relevance, truth = _prepare(relevance, truth, among)
    best = relevance.masked_fill(~truth, -torch.inf).amax(1, keepdim=True)
    above = (relevance > best).sum(1)
    equal = (relevance == best).sum(1)
    return 1 / (above + wide(equal + 1) / 2)


def average_precision(relevance: Tensor, truth: Tensor, *, among: Tensor | None = None) -> Tensor:
    """Mean over true features of the share of true ones among those ranked as high or higher.

    It is `shared.stats.average_precision` row by row, with `among`.

    Parameters
    ----------
    relevance : (B, F) float
        Signed.
    truth : (B, F) bool
        The features that decide; at least one per row.
    among : (B, F) bool, optional
        Features that are ranked; all by default.

    Returns
    -------
    (B,) float64
        Higher is better; the share of true features on average if relevance is random.

    Raises
    ------
    ValueError
        For shapes that differ, NaN or infinity, rows without a true feature.
    """
    ranked, truth = _prepare(relevance, truth, among)
    out = ranked == -torch.inf  # below all that is ranked, so that no precision counts it
    return stats.average_precision(ranked.masked_fill(out, relevance.min().item() - 1).T, truth.T)


def positive_share(relevance: Tensor, truth: Tensor, *, among: Tensor | None = None) -> Tensor:
    """Share of the true features whose relevance is positive.

    Parameters
    ----------
    relevance : (B, F) float
        Signed.
    truth : (B, F) bool
        The features that decide; at least one per row.
    among : (B, F) bool, optional
        Features that count; all by default.

    Returns
    -------
    (B,) float64
        Higher is better.

    Raises
    ------
    ValueError
        For shapes that differ, NaN or infinity, rows without a true feature.
    """
    relevance, truth = _prepare(relevance, truth, among)
    return wide(((relevance > 0) & truth).sum(1)) / truth.sum(1)


def relevance_mass(relevance: Tensor, truth: Tensor, *, among: Tensor | None = None) -> Tensor:
    """Share of the positive relevance that falls on true features; 0 if none is positive.

    Relevance mass accuracy of Arras et al. 2022, "CLEVR-XAI" (Information Fusion 81).

    Parameters
    ----------
    relevance : (B, F) float
        Signed.
    truth : (B, F) bool
        The features that decide; at least one per row.
    among : (B, F) bool, optional
        Features that count; all by default.

    Returns
    -------
    (B,) float64
        Higher is better.

    Raises
    ------
    ValueError
        For shapes that differ, NaN or infinity, rows without a true feature.
    """
    relevance, truth = _prepare(relevance, truth, among)
    positive = relevance.clamp(min=0).nan_to_num(neginf=0.0)
    total = positive.sum(1)
    return torch.where(total > 0, (positive * truth).sum(1) / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)


def intersection_over_union(
    relevance: Tensor, truth: Tensor, *, threshold: float = 0.5, among: Tensor | None = None
) -> Tensor:
    """IoU of the truth with the features whose relevance exceeds a share of the row's largest, if that is positive.

    Parameters
    ----------
    relevance : (B, F) float
        Signed.
    truth : (B, F) bool
        The features that decide; at least one per row.
    threshold : float
        The share of the largest, from 0 to 1.
    among : (B, F) bool, optional
        Features that count; all by default.

    Returns
    -------
    (B,) float64
        Higher is better.

    Raises
    ------
    ValueError
        For shapes that differ, NaN or infinity, rows without a true feature, a threshold out of range.
    """
    check_range("threshold", threshold, 0, 1)
    relevance, truth = _prepare(relevance, truth, among)
    largest = relevance.amax(1, keepdim=True)
    chosen = (relevance > threshold * largest) & (largest > 0)
    return wide((chosen & truth).sum(1)) / (chosen | truth).sum(1)


def _prepare(relevance: Tensor, truth: Tensor, among: Tensor | None) -> tuple[Tensor, Tensor]:
    check_array("relevance", relevance, ("B", "F"))
    for name, marks in (("truth", truth), ("among", among)):
        if marks is not None and marks.shape != relevance.shape:
            raise ValueError(f"{name} has shape {tuple(marks.shape)} and relevance {tuple(relevance.shape)}")
    ranked = wide(relevance.detach())
    true = truth.to(ranked.device, torch.bool)
    if among is not None:
        kept = among.to(ranked.device, torch.bool)
        ranked, true = ranked.masked_fill(~kept, -torch.inf), true & kept
    empty = (~true.any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"truth has no true feature in row {empty[0]} ({len(empty)} such rows); each row needs one")
    return ranked, true
