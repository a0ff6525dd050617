"""Correlations along rows, and how well scores rank labels: AUROC and average precision, ties at their mid-rank."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shared._checks import check_choice, check_finite, wide
from shared.stats._dtype import wide_dtype

CORRELATIONS = ("spearman", "kendall")


def pearson(a: ArrayLike | Tensor, b: ArrayLike | Tensor) -> np.ndarray | Tensor:
    """Pearson's correlation along the last axis.

    Parameters
    ----------
    a, b : (..., n)
        Arrays or tensors of one shape; finite.

    Returns
    -------
    (...) float64, a tensor if `a` is one
        In [−1, 1]; NaN where a row is constant, as in scipy.

    Raises
    ------
    ValueError
        For shapes that differ, no axis, NaN or infinity.
    """
    first, second = _rows(a, b)
    return _as_given(_correlation(first, second), a)


def rank_correlation(a: ArrayLike | Tensor, b: ArrayLike | Tensor, *, kind: str = "spearman") -> np.ndarray | Tensor:
    """Rank correlation along the last axis: Spearman's ρ, or Kendall's τ-b.

    Parameters
    ----------
    a, b : (..., n)
        Arrays or tensors of one shape; finite.
    kind : "spearman" or "kendall"
        Spearman's ties get their mean rank. Kendall's takes memory for n² pairs per row.

    Returns
    -------
    (...) float64, a tensor if `a` is one
        In [−1, 1]; NaN where a row is constant, as in scipy.

    Raises
    ------
    ValueError
        For shapes that differ, no axis, NaN or infinity.
    """
    check_choice("kind", kind, CORRELATIONS)
    first, second = _rows(a, b)
    if kind == "kendall":
        signs = [torch.sign(x[..., :, None] - x[..., None, :]).flatten(-2) for x in (first, second)]
        squares = signs[0].square().sum(-1) * signs[1].square().sum(-1)
        return _as_given((signs[0] * signs[1]).sum(-1) / squares.sqrt(), a)
    return _as_given(_correlation(_midranks(first), _midranks(second)), a)


def auroc(scores: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> np.ndarray | Tensor:
    """Area under the ROC curve per column: how often a positive scores above a negative, ties counted half.

    Parameters
    ----------
    scores : (n,) or (n, k)
        Finite; larger for positives.
    labels : as scores
        0 or 1, bool or number.

    Returns
    -------
    () or (k,) float64, a tensor if `scores` is one
        NaN for a column with one class only.

    Raises
    ------
    ValueError
        For shapes that differ, other labels, NaN or infinity.
    """
    columns, positive = _columns(scores, labels)
    n_positive = positive.sum(-1)
    ranks = (_midranks(columns) * positive).sum(-1)
    area = (ranks - n_positive * (n_positive + 1) / 2) / (n_positive * (columns.shape[-1] - n_positive))
    return _as_given(area, scores)


def average_precision(scores: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> np.ndarray | Tensor:
    """Mean over positives of the share of positives among all that score as high or higher, per column.

    It is scikit-learn's `average_precision_score`: tied scores enter together.

    Parameters
    ----------
    scores : (n,) or (n, k)
        Finite; larger for positives.
    labels : as scores
        0 or 1, bool or number.

    Returns
    -------
    () or (k,) float64, a tensor if `scores` is one
        NaN for a column without positives (scikit-learn: 0); 1 for one without negatives.

    Raises
    ------
    ValueError
        For shapes that differ, other labels, NaN or infinity.
    """
    columns, positive = _columns(scores, labels)
    ordered, order = columns.sort(-1)
    hits = positive.gather(-1, order)
    below = _first_of_ties(ordered)
    found = hits.flip(-1).cumsum(-1).flip(-1).gather(-1, below)  # positives from there up
    precision = found / (columns.shape[-1] - below)
    return _as_given((precision * hits).sum(-1) / hits.sum(-1), scores)


def _midranks(rows: Tensor) -> Tensor:
    """Ranks from 1 along the last axis, tied ones at their mean."""
    ordered, order = rows.sort(-1)
    first = _first_of_ties(ordered)
    last = rows.shape[-1] - 1 - _first_of_ties(ordered.flip(-1)).flip(-1)
    return torch.empty_like(wide(first)).scatter_(-1, order, wide(first + last) / 2 + 1)


def _first_of_ties(ordered: Tensor) -> Tensor:
    """Place, from 0, of the first of those that each entry of sorted rows is tied with."""
    place = torch.arange(ordered.shape[-1], device=ordered.device).expand(ordered.shape).clone()
    place[..., 1:].masked_fill_(ordered[..., 1:] == ordered[..., :-1], 0)
    return place.cummax(-1).values


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    first, second = (_centred(x) for x in (a, b))
    size = first.norm(dim=-1) * second.norm(dim=-1)
    return (torch.linalg.vecdot(first, second) / size).clamp(-1, 1)


def _centred(rows: Tensor) -> Tensor:
    """Less their mean, at most 1, so that squares neither overflow nor vanish; a constant row becomes NaN."""
    rows = rows - rows[..., :1]
    rows -= rows.mean(-1, keepdim=True)
    return rows.div_(rows.abs().amax(-1, keepdim=True))


def _rows(a: ArrayLike | Tensor, b: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    first = _float64(a)
    second = _float64(b).to(first.device)
    if first.ndim == 0 or first.shape != second.shape:
        raise ValueError(f"a has shape {tuple(first.shape)} and b {tuple(second.shape)}; expected (..., n) for both")
    check_finite("a", first)
    check_finite("b", second)
    return first, second


def _columns(scores: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    """Scores and labels (…, n) in float64, columns made rows."""
    columns = _float64(scores)
    positive = _float64(labels).to(columns.device)
    if columns.ndim not in (1, 2):
        raise ValueError(f"scores has shape {tuple(columns.shape)}; expected (n,) or (n, k)")
    check_finite("scores", columns)
    check_finite("labels", positive)
    if columns.shape != positive.shape:
        raise ValueError(f"labels has shape {tuple(positive.shape)}; expected that of scores, {tuple(columns.shape)}")
    if not bool(((positive == 0) | (positive == 1)).all()):
        raise ValueError(f"labels must be 0 or 1; got {positive.unique().tolist()[:5]}")
    return columns.mT.contiguous() if columns.ndim == 2 else columns, positive.mT if columns.ndim == 2 else positive


def _float64(values: ArrayLike | Tensor) -> Tensor:
    tensor = values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    return tensor.to(wide_dtype(tensor.device))


def _as_given(result: Tensor, given: ArrayLike | Tensor) -> np.ndarray | Tensor:
    """A tensor for a tensor, else an array; of no axes a numpy float."""
    return result if isinstance(given, Tensor) else result.numpy()[()]
