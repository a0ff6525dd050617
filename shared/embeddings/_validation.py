"""Argument checks of the embeddings room: data, distance matrices, perplexities, neighbourhood sizes."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from shared._checks import check_finite

MIN_POINTS = 10
_MOST_DENSE = 2**28  # numbers that a sparse matrix may have as a dense one


def as_data(argument: str, X: np.ndarray, *, min_points: int = MIN_POINTS) -> np.ndarray:
    """`X` as a float64 array (n, d); `ValueError` for another shape, NaN, or fewer than `min_points` rows.

    A scipy sparse matrix is made dense, if that takes no more than 2 GB.
    """
    if sp.issparse(X):
        if X.shape[0] * X.shape[1] > _MOST_DENSE:
            raise ValueError(
                f"{argument} is sparse, of shape {X.shape}, too large to be made dense; reduce it first, say by "
                "sklearn.decomposition.TruncatedSVD"
            )
        X = X.toarray()
    X = X.to_numpy(np.float64, na_value=np.nan) if hasattr(X, "iloc") else np.asarray(X, dtype=np.float64)
    if X.ndim != 2:
        raise ValueError(f"{argument} has shape {X.shape}; expected (n points, d features)")
    check_finite(argument, X)
    if len(X) < min_points:
        raise ValueError(f"{argument} has {len(X)} points; at least {min_points} are needed")
    return X


def as_distances(argument: str, D: np.ndarray, *, n: int | None = None, min_points: int = 2) -> np.ndarray:
    """`D` as a float64 distance matrix (n, n): finite, >= 0, symmetric to 1e-8 of its maximum, zero diagonal."""
    D = np.asarray(D, dtype=np.float64)
    if D.ndim != 2 or D.shape[0] != D.shape[1]:
        raise ValueError(f"{argument} has shape {D.shape}; expected a square matrix of distances (n, n)")
    check_finite(argument, D)
    if len(D) < min_points:
        raise ValueError(f"{argument} is of {len(D)} points; at least {min_points} are needed")
    if n is not None and len(D) != n:
        raise ValueError(f"{argument} is of {len(D)} points, the data of {n}; both must describe the same points")
    if D.min() < 0:
        raise ValueError(f"{argument} has negative entries (smallest {D.min():.3g}); distances are >= 0")
    top = max(D.max(), np.finfo(float).tiny)
    skew = np.abs(D - D.T).max()
    if skew > 1e-8 * top:
        raise ValueError(f"{argument} is not symmetric (largest difference {skew:.3g}); pass (D + D.T) / 2")
    if np.abs(np.diagonal(D)).max() > 1e-8 * top:
        raise ValueError(f"{argument} has a diagonal of up to {np.diagonal(D).max():.3g}; it must be zero")
    return D


def check_perplexity(perplexity: float, n: int) -> float:
    """`ValueError` unless 1 < perplexity < (n - 1) / 3: a point needs about three times as many neighbours."""
    if not 1 < perplexity < (n - 1) / 3:
        raise ValueError(
            f"perplexity={perplexity} does not fit {n} points; accepted: above 1, below (n - 1) / 3 = {(n - 1) / 3:.4g}"
        )
    return float(perplexity)


def check_neighbours(k: int, n: int) -> int:
    """`ValueError` unless 1 <= k <= n - 1."""
    if not (isinstance(k, int | np.integer) and 1 <= k <= n - 1):
        raise ValueError(f"k={k!r} neighbours do not fit {n} points; accepted: whole numbers from 1 to {n - 1}")
    return int(k)
