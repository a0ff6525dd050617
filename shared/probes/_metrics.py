"""How good and how tangled directions are."""

from __future__ import annotations

import math

from torch import Tensor

from shared._checks import check_array, check_choice, wide
from shared.probes._inputs import as_rows
from shared.stats import auroc, unit_norm


def cosine(V: Tensor, W: Tensor) -> Tensor:
    """Cosines between rows.

    Parameters
    ----------
    V : (k, d), or (d,).
    W : (m, d), or (d,).

    Returns
    -------
    (k, m), double precision.
    """
    V, W = as_rows("V", V), as_rows("W", W)
    _check_width("V", V, "W", W)
    return _cosine(V, W)


def _check_width(first: str, V: Tensor, second: str, W: Tensor) -> None:
    if V.shape[1] != W.shape[1]:
        raise ValueError(f"{first} has {V.shape[1]} dimensions, {second} has {W.shape[1]}; they must be the same")


def _cosine(V: Tensor, W: Tensor) -> Tensor:
    V, W = wide(V), wide(W)
    return unit_norm(V, dim=1) @ unit_norm(W, dim=1).T


def orthogonality(V: Tensor, *, denominator: str = "k-1") -> Tensor:
    """`1 − Σ_{j≠i} |cos(v_i, v_j)| / denominator` of each direction.

    Parameters
    ----------
    V : (k, d), k >= 2.
    denominator : "k-1", then it lies in [0, 1]; "k" is what the code of Erogullari et al. 2025 divides by (smallest
        value 1/k).

    Returns
    -------
    (k,).
    """
    check_choice("denominator", denominator, ("k", "k-1"))
    check_array("V", V, ("k", "d"))
    k = len(V)
    if k < 2:
        raise ValueError(f"V has {k} row; orthogonality compares at least two")
    overlaps = _cosine(V, V).abs()
    return 1 - (overlaps.sum(1) - overlaps.diagonal()) / (k if denominator == "k" else k - 1)


def auroc_cosine(V: Tensor, H: Tensor, Y: Tensor) -> Tensor:
    """AUROC of the cosine between activation and direction against the label.

    Parameters
    ----------
    V : directions (k, d).
    H : activations (n, d).
    Y : labels (n, k).

    Returns
    -------
    (k,); NaN for a column with one class only.
    """
    V = as_rows("V", V)
    check_array("H", H, ("n", "d"))
    _check_width("V", V, "H", H)
    check_array("Y", Y, (len(H), len(V)))
    return auroc(_cosine(H, V), Y)


def leakage(V: Tensor, truth: Tensor) -> Tensor:
    """`|cos(v_i, g_j)|` with the generating directions; the diagonal is alignment, the rest leaks.

    Parameters
    ----------
    V : directions (k, d).
    truth : (k, d).

    Returns
    -------
    (k, k).
    """
    V, truth = as_rows("V", V), as_rows("truth", truth)
    _check_width("V", V, "truth", truth)
    return _cosine(V, truth).abs()


def welch_bound(k: int, d: int) -> float:
    """Smallest possible mean squared cosine among k unit vectors in d dimensions (Welch 1974).

    Parameters
    ----------
    k : number of vectors.
    d : dimensions.

    Returns
    -------
    A number in [0, 1]; NaN for fewer than two vectors.
    """
    if k < 2:
        return math.nan
    return max(0.0, (k - d) / (d * (k - 1)))
