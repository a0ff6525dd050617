"""Concept sensitivity: TCAV for many directions at the price of one gradient (Kim et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from shared import hooks
from shared._checks import as_numbers, check_array, check_choice, check_finite, check_shape, wide
from shared.probes._direction import Direction, check_layer, stack_as
from shared.probes._passes import Data, Target, layer_gradients

TIES = ("drop", "negative")


@dataclass(frozen=True)
class TCAVResult:
    """TCAV of k directions.

    Parameters
    ----------
    score : (k,), share of samples that the concept pushes towards the class.
    magnitude : (k,), share of the absolute sensitivity that is positive.
    ties : (k,), how many sensitivities were exactly zero.
    stderr : (k,), the score's standard error over samples.
    per_sample : the sensitivity, (n, k), or (n, positions, k).
    """

    score: Tensor
    magnitude: Tensor
    ties: Tensor
    stderr: Tensor
    per_sample: Tensor


def tcav_scores(
    gradients: Tensor,
    vectors: Tensor | Sequence[Direction],
    *,
    ties: str = "drop",
    channel_axis: int | None = None,
) -> TCAVResult:
    """TCAV of directions from gradients.

    Parameters
    ----------
    gradients : (n, d), or with more axes, such as (n, d, h, w) or (n, T, d); then every position counts.
    vectors : (k, d), (d,), or `Direction`s of one layer.
    ties : "drop" leaves exact zeros out, "negative" counts them against the concept (as captum does).
    channel_axis : 1 for maps, -1 for tokens; not needed for (n, d).

    Returns
    -------
    `TCAVResult`.
    """
    check_choice("ties", ties, TIES)
    check_finite("gradients", gradients)
    axis = hooks.resolve_axis(gradients, channel_axis, argument="gradients")
    return _scores("vectors", gradients, axis, vectors, ties)


def _scores(
    argument: str, gradients: Tensor, axis: int, vectors: Tensor | Sequence[Direction], ties: str
) -> TCAVResult:
    """`tcav_scores` of what the caller calls `argument`."""
    V = stack_as(argument, vectors).to(gradients)
    moved = gradients.movedim(axis, -1)
    check_shape(argument, V, ("k", moved.shape[-1]))
    per_sample = (moved @ V.T).flatten(1, -2) if moved.ndim > 2 else moved @ V.T
    S = wide(per_sample.reshape(-1, len(V)))
    up = (S > 0).sum(0)
    zero = (S == 0).sum(0)
    total = wide(len(S) - zero if ties == "drop" else torch.full_like(zero, len(S)))
    score = up / total
    absolute = S.abs().sum(0)
    return TCAVResult(
        score=score,
        magnitude=S.clamp(min=0).sum(0) / absolute,
        ties=zero,
        stderr=(score * (1 - score) / total).sqrt(),
        per_sample=per_sample,
    )


def tcav(
    model: nn.Module,
    layer: str,
    x: Data,
    target: Target,
    directions: Direction | Sequence[Direction] | Tensor,
    *,
    reduce: str = "mean",
    ties: str = "drop",
    channel_axis: int | None = None,
    batch_size: int = 128,
) -> TCAVResult:
    """TCAV of directions at a layer for samples and one class: one backward pass whatever their number.

    Parameters
    ----------
    model, layer, x, target : see `layer_gradients`.
    directions : one or several of this layer, or vectors (k, d).
    reduce : over positions or tokens: "mean", "sum", or "none", then every position counts.
    ties : see `tcav_scores`.
    channel_axis : where the layer doesn't tell (`hooks.find_channel_axis`).
    batch_size : rows per pass; the result doesn't depend on it.

    Returns
    -------
    `TCAVResult`.

    Raises
    ------
    ValueError
        An unknown layer (the closest names are listed); a direction of another layer or size.
    """
    several = [directions] if isinstance(directions, Direction) else directions
    check_choice("ties", ties, TIES)
    check_layer(several, layer)
    options = {"channel_axis": channel_axis, "batch_size": batch_size}
    gradients = layer_gradients(model, layer, x, target, reduce=reduce, **options)
    check_finite("gradients", gradients)
    axis = hooks.find_channel_axis(model, layer, gradients, channel_axis=None if gradients.ndim == 2 else channel_axis)
    return _scores("directions", gradients, axis, several, ties)


@dataclass(frozen=True)
class TCAVTest:
    """Outcome of `tcav_test`.

    Parameters
    ----------
    score, random_score : mean scores.
    t : Welch's t.
    p_value : two-sided.
    """

    score: float
    random_score: float
    t: float
    p_value: float


def tcav_test(scores: Tensor, random_scores: Tensor) -> TCAVTest:
    """Whether a concept's TCAV scores (one per non-concept set) differ from those of random "concepts".

    The protocol of Kim et al. 2018: each score comes from a fresh non-concept set, the random ones from two random sets
    against each other; two-sided Welch t-test. Equal constant scores give p = 1, different constant ones p = 0.

    Parameters
    ----------
    scores : (m,), m >= 2.
    random_scores : (r,), r >= 2.

    Returns
    -------
    `TCAVTest`.
    """
    first = as_numbers(scores)
    second = as_numbers(random_scores)
    check_array("scores", first, ("m",))
    check_array("random_scores", second, ("m",))
    if min(len(first), len(second)) < 2:
        raise ValueError(f"scores has {len(first)} and random_scores {len(second)} values; at least two each")
    if first.std() == 0 and second.std() == 0:
        same = first[0] == second[0]
        return TCAVTest(first.mean(), second.mean(), 0.0 if same else np.inf, 1.0 if same else 0.0)
    t, p = stats.ttest_ind(first, second, equal_var=False)
    return TCAVTest(float(first.mean()), float(second.mean()), float(t), float(p))
