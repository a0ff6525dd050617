"""Behaviours as components: what serves an unwanted one and not the rest, and the model without it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from shared._checks import UnknownNameError, check_finite, check_range, check_shape


def contrastive_scores(undesired: Mapping[str, Tensor], general: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`R_undesired - R_general`: what an unwanted behaviour needs more than everything else does.

    Both are means over reference samples in the same unit, such as relevance with `init="one"`. Components of the
    largest difference go (`without_top`; Hatefi et al. 2025, section on targeted correction; the sign is ours).

    Parameters
    ----------
    undesired : layer -> scores on samples of the behaviour.
    general : layer -> scores on other samples, of the same layers and shapes.

    Returns
    -------
    Layer -> the difference.

    Raises
    ------
    ValueError
        Other layers or shapes, scores that aren't finite, none at all.
    """
    _check_scores("undesired", undesired)
    _check_scores("general", general)
    if set(undesired) != set(general):
        odd = sorted(set(undesired) ^ set(general))
        raise UnknownNameError(f"general must have the layers of undesired; only one of them has {', '.join(odd)}")
    for name, score in undesired.items():
        check_shape(f"general[{name!r}]", general[name], tuple(score.shape))
    return {name: score - general[name] for name, score in undesired.items()}


def without_top(scores: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Masks for `masked` without the `count` highest of all scores; no sort of all, so that millions are cheap.

    As `keep_masks(scores, count / n, most=True)` with the global scope, but for which of equal scores go.

    Parameters
    ----------
    scores : layer -> scores, one per unit or per weight.
    count : how many go, from 0 to all.

    Returns
    -------
    Layer -> True where kept, in the scores' shapes.

    Raises
    ------
    ValueError
        No scores, scores that aren't finite, a count out of range.
    """
    _check_scores("scores", scores)
    check_range("count", count, 0, sum(score.numel() for score in scores.values()))
    masks = {name: torch.ones(score.shape, dtype=torch.bool, device=score.device) for name, score in scores.items()}
    tops = {name: score.detach().flatten().topk(min(count, score.numel())) for name, score in scores.items()}
    device = next(iter(scores.values())).device
    best = torch.cat([top.values.to(device) for top in tops.values()]).topk(count).indices
    start = 0
    for name, top in tops.items():
        mine = best[(best >= start) & (best < start + len(top.indices))] - start
        masks[name].view(-1)[top.indices[mine.to(top.indices.device)]] = False
        start += len(top.indices)
    return masks


def _check_scores(argument: str, scores: Mapping[str, Tensor]) -> None:
    if not scores:
        raise ValueError(f"{argument} is empty; at least one layer is needed")
    for name, score in scores.items():
        check_finite(f"{argument}[{name!r}]", score)
