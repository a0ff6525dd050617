"""How good, how tangled and how harmful: scores of directions and of corrected models."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shared._checks import check_array, check_choice, check_finite, check_shape
from shared.probes._inputs import as_rows
from shared.stats import auroc


def cosine(V: Tensor, W: Tensor | None = None) -> Tensor:
    """Cosines (k, m) between rows of V (k, d) and W (m, d); W = V unless given."""
    V = as_rows("V", V)
    W = V if W is None else as_rows("W", W)
    check_shape("W", W, ("m", V.shape[1]))
    return _cosine(V, W)


def _cosine(V: Tensor, W: Tensor) -> Tensor:
    V, W = V.double(), W.double()
    return torch.nn.functional.normalize(V, dim=1) @ torch.nn.functional.normalize(W, dim=1).T


def orthogonality(V: Tensor, denominator: str = "k-1") -> Tensor:
    """`1 − Σ_{j≠i} |cos(v_i, v_j)| / denominator` per row of V (k, d).

    With "k-1" it lies in [0, 1]; "k" is what the code of Erogullari et al. 2025 divides by (smallest value 1/k).
    """
    check_choice("denominator", denominator, ("k", "k-1"))
    check_array("V", V, ("k", "d"))
    k = len(V)
    if k < 2:
        raise ValueError(f"V has {k} row; orthogonality compares at least two")
    overlaps = _cosine(V, V).abs()
    return 1 - (overlaps.sum(1) - overlaps.diagonal()) / (k if denominator == "k" else k - 1)


def auroc_cosine(V: Tensor, H: Tensor, Y: Tensor) -> Tensor:
    """AUROC (k,) of cos(h, v_c) against label y_c: H (n, d), V (k, d), Y (n, k)."""
    H, V = as_rows("H", H), as_rows("V", V)
    check_shape("V", V, ("k", H.shape[1]))
    check_array("Y", Y, (len(H), len(V)))
    return auroc(_cosine(H, V), Y)


def leakage(V: Tensor, truth: Tensor) -> Tensor:
    """`|cos(v_i, g_j)|` (k, k) with the generating directions; the diagonal is alignment, the rest leaks."""
    V, truth = as_rows("V", V), as_rows("truth", truth)
    check_shape("truth", truth, ("k", V.shape[1]))
    return _cosine(V, truth).abs()


def artifact_relevance(relevance: Tensor, mask: Tensor) -> Tensor:
    """Share (n,) of absolute relevance inside the artifact's mask; both (n, H, W) or (n, C, H, W) summed by channel.

    NaN where a map is zero everywhere.
    """
    maps = relevance.sum(1) if relevance.ndim == 4 else relevance
    inside = mask.to(maps.device).amax(1) if mask.ndim == 4 else mask.to(maps.device)
    check_shape("mask", inside, tuple(maps.shape))
    check_finite("relevance", maps)
    maps = maps.detach().abs().double().flatten(1)
    return (maps * inside.flatten(1)).sum(1) / maps.sum(1)


def group_accuracy(logits: Tensor, y: Tensor, groups: Tensor | None = None) -> dict[str, float]:
    """Accuracy over all samples and, with groups (n,), in the worst and in each group."""
    check_array("logits", logits, ("n", "classes"))
    check_array("y", y, (len(logits),))
    if groups is not None:
        check_array("groups", groups, (len(logits),))
    hit = (logits.argmax(1).cpu() == y.cpu()).double()
    result = {"all": float(hit.mean())}
    if groups is not None:
        each = {int(g): float(hit[groups.cpu() == g].mean()) for g in groups.unique()}
        result |= {"worst": min(each.values()), **{f"group {g}": value for g, value in each.items()}}
    return result


def welch_bound(k: int, d: int) -> float:
    """Smallest possible mean squared cosine among k unit vectors in d dimensions (Welch 1974)."""
    if k < 2:
        return math.nan
    return max(0.0, (k - d) / (d * (k - 1)))
