"""Accuracy against pruning rate and the area under it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared._checks import check_finite, check_range, check_shape, wide
from shared.hooks import batches, count_rows, refuse_training, run_model
from shared.pruning._masks import kept_at, masked, prune_ranks

RATES = tuple(round(0.05 * n, 2) for n in range(20))  # 0, 0.05, ..., 0.95
Metric = Callable[[Tensor, Tensor], Tensor]


def correct(logits: Tensor, target: Tensor) -> Tensor:
    """Whether each row's largest logit is its target's.

    Parameters
    ----------
    logits : `(B, C)`.
    target : int64 `(B,)`.

    Returns
    -------
    Float `(B,)` of zeros and ones.
    """
    check_shape("target", target, (len(logits),))
    return (logits.argmax(-1) == target.to(logits.device)).float()


def pruning_curve(
    model: nn.Module,
    scores: Mapping[str, Tensor],
    x: Any,
    target: Tensor,
    *,
    rates: Sequence[float] = RATES,
    scope: str = "global",
    most: bool = False,
    classes: Iterable[int] | None = None,
    metric: Metric = correct,
    batch_size: int = 256,
) -> np.ndarray:
    """Mean of a metric at each pruning rate, every rate from the same scores (one shot, nothing is trained).

    The model is neither copied nor reloaded: a rate costs a forward pass.

    Parameters
    ----------
    model : any torch module in eval mode.
    scores : as for `prune_ranks`.
    x : what the model takes, B rows.
    target : what the metric takes, B rows; classes by default.
    rates : shares to prune, each in [0, 1].
    scope : as for `prune_ranks`.
    most : as for `prune_ranks`.
    classes : only these classes' logits compete, as in a task of few classes; all without.
    metric : `(logits, target) -> (B,)`; accuracy by default.
    batch_size : rows in one forward pass.

    Returns
    -------
    `(rates,)`, float64.

    Raises
    ------
    ValueError
        Bad scores, data, rates or classes; a model in training mode.
    """
    options = {"rates": rates, "scope": scope, "most": most, "classes": classes, "metric": metric}
    return pruning_rows(model, scores, x, target, **options, batch_size=batch_size).mean(1)


def pruning_rows(
    model: nn.Module,
    scores: Mapping[str, Tensor],
    x: Any,
    target: Tensor,
    *,
    rates: Sequence[float] = RATES,
    scope: str = "global",
    most: bool = False,
    classes: Iterable[int] | None = None,
    metric: Metric = correct,
    batch_size: int = 256,
) -> np.ndarray:
    """A metric of every row at each pruning rate: a circuit is what stays, its rows what it still does.

    Parameters
    ----------
    model : as for `pruning_curve`.
    scores : as for `prune_ranks`.
    x : as for `pruning_curve`.
    target : as for `pruning_curve`.
    rates : as for `pruning_curve`; a circuit of share k stays at the rate 1 - k.
    scope : as for `prune_ranks`.
    most : as for `prune_ranks`.
    classes : as for `pruning_curve`.
    metric : as for `pruning_curve`.
    batch_size : rows in one forward pass.

    Returns
    -------
    `(rates, B)`, float64.

    Raises
    ------
    ValueError
        As for `pruning_curve`.
    """
    check_range("batch_size", batch_size, 1)
    refuse_training(model)
    rows = count_rows(x)
    check_shape("target", target, (rows, *target.shape[1:]))
    check_finite("target", target)
    for rate in rates:
        check_range("rates", rate, 0.0, 1.0)
    ranks = prune_ranks(scores, scope=scope, most=most)
    measure = _restricted(metric, classes)
    masks = [kept_at(ranks, rate) for rate in rates]
    values: list[list[Tensor]] = [[] for _ in masks]
    labels = iter(target.split(batch_size))
    with torch.no_grad():
        for part in batches(x, batch_size):
            goal = next(labels)
            for found, mask in zip(values, masks):
                with masked(model, mask):
                    found.append(wide(measure(_logits(model, part), goal)).cpu())
    return np.array([torch.cat(found).numpy() for found in values], dtype=float).reshape(len(masks), rows)


def _restricted(metric: Metric, classes: Iterable[int] | None) -> Metric:
    """The metric where only some classes' logits compete."""
    if classes is None:
        return metric
    chosen = sorted(set(classes))

    def among(logits: Tensor, target: Tensor) -> Tensor:
        if not chosen or chosen[0] < 0 or chosen[-1] >= logits.shape[-1]:
            raise ValueError(f"classes={chosen} must be some of 0 to {logits.shape[-1] - 1}")
        others = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
        others[chosen] = False
        return metric(logits.masked_fill(others, -torch.inf), target)

    return among


def _logits(model: nn.Module, x: Any) -> Tensor:
    out = run_model(model, x)
    return out if isinstance(out, Tensor) else out.logits


def curve_area(rates: Sequence[float], values: np.ndarray) -> float:
    """Area under a pruning curve by the trapezoid rule, as a share of the rates' span: the mean height.

    Parameters
    ----------
    rates : increasing, at least two.
    values : `(rates,)`.

    Returns
    -------
    The area divided by the last minus the first rate.

    Raises
    ------
    ValueError
        Lengths that differ, fewer than two rates, rates that don't increase.
    """
    steps = np.diff(np.asarray(rates, dtype=float))
    if not len(steps) or (steps <= 0).any():
        raise ValueError(f"rates must be two or more increasing numbers; got {list(rates)}")
    check_shape("values", values, (len(steps) + 1,))
    check_finite("values", values)
    return float(np.trapezoid(values, rates) / steps.sum())
