"""Angles of random triples of points: what a map does to them, from local to global."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from shared._checks import check_array, check_choice, check_range
from shared.embeddings._metrics import GEOMETRIES, pearson_of
from shared.embeddings._sphere import check_unit
from shared.embeddings._validation import as_data


def random_triples(n: int, count: int, *, generator: np.random.Generator) -> np.ndarray:
    """Random triples (i, j, k) of three different points; angles are taken at the first.

    Parameters
    ----------
    n : int
        Points, three at least.
    count : int
        Triples.
    generator : numpy.random.Generator
        Draws them.

    Returns
    -------
    (count, 3) int64
        Indices of points.
    """
    if n < 3:
        raise ValueError(f"n={n}: an angle needs three points")
    i = generator.integers(n, size=count)
    j = (i + generator.integers(1, n, size=count)) % n
    k = generator.integers(n - 2, size=count)  # a number among the others: step over i and j
    k += k >= np.minimum(i, j)
    k += k >= np.maximum(i, j)
    return np.stack([i, j, k], 1)


def triple_angles(X: np.ndarray, at: np.ndarray, *, geometry: str = "euclidean") -> np.ndarray:
    """Angles at the first point of each triple.

    Parameters
    ----------
    X : (n, d) array
        Three points at least; unit vectors for a sphere.
    at : (m, 3) int array
        Indices of points, such as `random_triples`.
    geometry : "euclidean" or "sphere"
        Angles between straight lines, or between great circles.

    Returns
    -------
    (m,) float64
        Radians; NaN where two of the points coincide, or on a sphere are antipodes.
    """
    check_choice("geometry", geometry, GEOMETRIES)
    X = as_data("X", X, min_points=3)
    at = np.asarray(at)
    check_array("at", at, ("m", 3))
    if at.dtype.kind not in "iu" or at.min() < 0 or at.max() >= len(X):
        raise ValueError(f"at must hold indices of points, whole numbers from 0 to {len(X) - 1}")
    return _angles("X", X, at, geometry)


def _angles(argument: str, X: np.ndarray, at: np.ndarray, geometry: str = "euclidean") -> np.ndarray:
    if geometry == "euclidean" and _fewer_products(X, at):
        return _angles_by_products(X, at)
    i, j, k = (X[at[:, c]] for c in range(3))
    to_j, to_k = j - i, k - i
    if geometry == "sphere":
        check_unit(argument, X)
        to_j, to_k = (t - (t * i).sum(1, keepdims=True) * i for t in (to_j, to_k))
    lengths = np.linalg.norm(to_j, axis=1) * np.linalg.norm(to_k, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.where(lengths > 1e-15 * lengths.max(), (to_j * to_k).sum(1) / lengths, np.nan)
    return np.arccos(np.clip(cosine, -1, 1))


def _fewer_products(X: np.ndarray, at: np.ndarray) -> bool:
    """Whether all inner products cost less than the triples' differences."""
    return len(X) ** 2 < at.size * X.shape[1] / 3


def _longest_sides(X: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The longer of the two sides at the angle, of each triple."""
    if not _fewer_products(X, at):
        return np.linalg.norm(X[at[:, 1:]] - X[at[:, :1]], axis=2).max(1)
    centred = X - X.mean(0)
    G = centred @ centred.T
    squared = np.diagonal(G)[:, None] + np.diagonal(G) - 2 * G
    return np.sqrt(squared[at[:, :1], at[:, 1:]].max(1).clip(min=0))


def _angles_by_products(X: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The same from all inner products, for points of many dimensions and few in number."""
    centred = X - X.mean(0)
    G = centred @ centred.T
    i, j, k = at.T
    to_j, to_k = (G[i, i] + G[p, p] - 2 * G[i, p] for p in (j, k))
    nothing = 1e-12 * np.diagonal(G).max()  # a squared distance that rounding alone can make
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (G[j, k] - G[i, j] - G[i, k] + G[i, i]) / np.sqrt(to_j * to_k)
    return np.arccos(np.clip(np.where(np.minimum(to_j, to_k) > nothing, cosine, np.nan), -1, 1))


def _data_and_map(X: np.ndarray, Y: np.ndarray, geometry: str) -> tuple[np.ndarray, np.ndarray]:
    check_choice("geometry", geometry, GEOMETRIES)
    X = as_data("X", X, min_points=3)
    Y = as_data("Y", Y, min_points=3)
    if len(X) != len(Y):
        raise ValueError(f"Y is of {len(Y)} points, X of {len(X)}; both must describe the same points")
    return X, Y


def _defined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Triples that have an angle in the data and in the map; `ValueError` without any."""
    for name, angles in (("X", a), ("Y", b)):
        if not np.isfinite(angles).any():
            raise ValueError(f"{name} has no three different points among the triples drawn: no angle is defined")
    good = np.isfinite(a) & np.isfinite(b)
    if not good.any():
        raise ValueError("X and Y have no triple drawn whose angle is defined in both; drop duplicates")
    return good


def angle_corr(
    X: np.ndarray,
    Y: np.ndarray,
    *,
    geometry: str = "euclidean",
    n_triples: int = 20_000,
    generator: np.random.Generator,
) -> float:
    """Pearson correlation of the angles of random triples in the data and in the map.

    Parameters
    ----------
    X : (n, d) array
        Data.
    Y : (n, 2 or 3) array
        The map.
    geometry : "euclidean" or "sphere"
        Of the map.
    n_triples : int
        How many.
    generator : numpy.random.Generator
        Draws them.

    Returns
    -------
    float
        In [-1, 1].
    """
    check_range("n_triples", n_triples, 1)
    X, Y = _data_and_map(X, Y, geometry)
    at = random_triples(len(X), n_triples, generator=generator)
    a, b = _angles("X", X, at), _angles("Y", Y, at, geometry)
    good = _defined(a, b)
    return pearson_of(a[good], b[good])


def angle_errors(
    X: np.ndarray,
    Y: np.ndarray,
    *,
    geometry: str = "euclidean",
    n_triples: int = 20_000,
    n_bins: int = 5,
    generator: np.random.Generator,
) -> np.ndarray:
    """Mean absolute angle error, from the most local triples to the most global.

    A triple's scale is its longest side at the angle, in the data.

    Parameters
    ----------
    X : (n, d) array
        Data.
    Y : (n, 2 or 3) array
        The map.
    geometry : "euclidean" or "sphere"
        Of the map.
    n_triples : int
        How many.
    n_bins : int
        Groups of triples by scale, of one size.
    generator : numpy.random.Generator
        Draws the triples.

    Returns
    -------
    (n_bins,) float64
        Degrees.
    """
    check_range("n_triples", n_triples, 1)
    check_range("n_bins", n_bins, 1)
    X, Y = _data_and_map(X, Y, geometry)
    at = random_triples(len(X), n_triples, generator=generator)
    a, b = _angles("X", X, at), _angles("Y", Y, at, geometry)
    sides = _longest_sides(X, at)
    good = _defined(a, b)
    error = np.degrees(np.abs(a - b)[good])
    bins = ((rankdata(sides[good], method="ordinal") - 1) * n_bins / good.sum()).astype(int)
    return np.bincount(bins, weights=error, minlength=n_bins) / np.bincount(bins, minlength=n_bins)
