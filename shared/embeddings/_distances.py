"""Distances by scikit-learn's name, between the points of a table or from new points to them."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist, pdist, squareform

from shared._checks import check_choice, check_finite
from shared.embeddings._base import classical_scaling
from shared.embeddings._validation import as_data, as_distances

METRICS = (
    *("euclidean", "cosine", "correlation", "manhattan", "chebyshev", "canberra", "braycurtis", "hamming"),
    "precomputed",
)

_SCIPY = {"manhattan": "cityblock"}


def check_metric(metric: str, argument: str, X: np.ndarray) -> None:
    """`ValueError` for a metric of another name, or one that a row of X has no value in."""
    check_choice("metric", metric, METRICS)
    if metric == "cosine" and not (X != 0).any(1).all():
        raise ValueError(f"{argument} has a row of zeros, which points nowhere: metric='cosine' takes none")
    if metric == "correlation" and not (X != X[:, :1]).any(1).all():
        raise ValueError(
            f"{argument} has a constant row, which correlates with nothing: metric='correlation' takes none"
        )


def as_points(argument: str, X: np.ndarray, metric: str, *, min_points: int = 10) -> np.ndarray:
    """X as the metric takes it: a table, or a matrix of distances."""
    check_choice("metric", metric, METRICS)
    if metric == "precomputed":
        return as_distances(argument, X, min_points=min_points)
    X = as_data(argument, X, min_points=min_points)
    check_metric(metric, argument, X)
    return X


def distances_between(X: np.ndarray, metric: str) -> np.ndarray:
    """(n, n) of the rows of X, symmetric with a zero diagonal; X itself if it holds them."""
    if metric == "precomputed":
        return X
    return squareform(np.clip(pdist(X, _SCIPY.get(metric, metric)), 0.0, None))


def distances_to(argument: str, X: np.ndarray, reference: np.ndarray, metric: str) -> np.ndarray:
    """(m, n) from new points to the reference's; X itself if it holds them."""
    X = as_data(argument, X, min_points=1)
    if X.shape[1] != reference.shape[1]:
        what = "reference points" if metric == "precomputed" else "features"
        raise ValueError(f"{argument} has {X.shape[1]} columns; the fit had {reference.shape[1]} {what}")
    if metric == "precomputed":
        if X.min() < 0:
            raise ValueError(f"{argument} has negative entries (smallest {X.min():.3g}); distances are >= 0")
        return X
    check_metric(metric, argument, X)
    D = cdist(X, reference, _SCIPY.get(metric, metric))
    check_finite(argument, D)
    return np.clip(D, 0.0, None)


def coordinates(X: np.ndarray, metric: str) -> np.ndarray:
    """Points whose distances are those of X under the metric."""
    if check_choice("metric", metric, METRICS) == "euclidean":
        return X
    X = as_points("X", X, metric, min_points=4)
    D = distances_between(X, metric)
    if not D.any():
        raise ValueError("all points of X are equal: there is no angle to keep")
    found = classical_scaling(D, n_components=len(D) - 1)
    sizes = found.std(0)
    return found[:, sizes > 1e-6 * sizes[0]]
