"""CONFETTI: distances with a prior's taken off, for any embedding of distances (Heiter, Fischer, Vreeken 2021)."""

from __future__ import annotations

import warnings

import numpy as np

from shared._checks import check_array, check_choice
from shared.embeddings._validation import as_distances

SCALES = ("max", "q99")


def confetti(D: np.ndarray, prior: np.ndarray, *, lam: float = 2.0, scale: str = "max") -> np.ndarray:
    """D ⊖ prior: D_ij - lam/2 · prior_ij + lam off the diagonal, 0 on it, both first scaled to a largest value of 1.

    The offset lam keeps the result a metric if both are (theorem 2). A constant prior warns, and D comes back scaled.

    Parameters
    ----------
    D : (n, n) array
        Distances of the data.
    prior : (n, n) array
        Distances of what is known; for labels 0 and 1, from `label_distances`.
    lam : float
        Above 0. With 2 the prior is taken off whole; larger values turn it over, so that what it sets apart comes near.
    scale : "max" or "q99"
        What becomes 1: the largest value, as in the paper, or the 99 % quantile (for outliers; no metric is promised).

    Returns
    -------
    (n, n) float64
        Distances, zero on the diagonal.
    """
    check_choice("scale", scale, SCALES)
    if not (np.isfinite(lam) and lam > 0):
        raise ValueError(f"lam={lam!r} must be a finite number above 0")
    D = as_distances("D", D)
    prior = as_distances("prior", prior, n=len(D))
    D = D / _size("D", D, scale)
    off = ~np.eye(len(D), dtype=bool)
    if np.ptp(prior[off]) == 0:
        warnings.warn("the prior is the same for all pairs: there is nothing to factor out", stacklevel=2)
        return D
    result = D - 0.5 * lam * prior / _size("prior", prior, scale) + lam
    np.fill_diagonal(result, 0.0)
    return result.clip(min=0.0) if scale == "q99" else result


def _size(argument: str, D: np.ndarray, scale: str) -> float:
    size = D.max() if scale == "max" else np.quantile(D[~np.eye(len(D), dtype=bool)], 0.99)
    if size <= 0:
        raise ValueError(f"{argument} has no distance above 0 to scale by")
    return float(size)


def label_distances(labels: np.ndarray) -> np.ndarray:
    """0 between points of one label, 1 between others: a prior for known groups.

    Parameters
    ----------
    labels : (n,) array
        Any kind.

    Returns
    -------
    (n, n) float64
        0 and 1.
    """
    labels = np.asarray(labels)
    check_array("labels", labels, ("n",))
    return (labels[:, None] != labels).astype(np.float64)
