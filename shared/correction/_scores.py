"""How harmful an artifact still is to a corrected model."""

from __future__ import annotations

from torch import Tensor

from shared._checks import check_array, check_finite, check_shape, wide


def artifact_relevance(relevance: Tensor, mask: Tensor) -> Tensor:
    """Share of absolute relevance inside the artifact's mask.

    Parameters
    ----------
    relevance : (n, H, W), or (n, C, H, W), then summed over channels.
    mask : bool (n, H, W), or (n, C, H, W).

    Returns
    -------
    (n,); NaN where a map is zero everywhere.
    """
    check_finite("relevance", relevance)
    check_finite("mask", mask)
    maps = relevance.sum(1) if relevance.ndim == 4 else relevance
    check_shape("relevance", maps, ("n", "H", "W"))
    inside = mask.to(maps.device).amax(1) if mask.ndim == 4 else mask.to(maps.device)
    check_shape("mask", inside, tuple(maps.shape))
    maps = wide(maps.detach().abs()).flatten(1)
    return (maps * inside.flatten(1)).sum(1) / maps.sum(1)


def group_accuracy(logits: Tensor, y: Tensor, *, groups: Tensor | None = None) -> dict[str, float]:
    """Accuracy over all samples and in groups.

    Parameters
    ----------
    logits : (n, classes).
    y : classes (n,).
    groups : numbers of groups (n,).

    Returns
    -------
    "all" and, with groups, "worst" and "group 0", … -> accuracy.
    """
    check_array("logits", logits, ("n", "classes"))
    check_array("y", y, (len(logits),))
    if groups is not None:
        check_array("groups", groups, (len(logits),))
    hit = wide(logits.argmax(1).cpu() == y.cpu())
    result = {"all": float(hit.mean())}
    if groups is not None:
        each = {int(g): float(hit[groups.cpu() == g].mean()) for g in groups.unique()}
        result |= {"worst": min(each.values()), **{f"group {g}": value for g, value in each.items()}}
    return result
