"""How faithful a map is: distances, densities, neighbourhoods. All take plain distances and return numbers.

D, E : (n, n) distances in the data and in the map, from `distance_matrix`; nothing here depends on their units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import pdist, squareform

from shared._checks import check_array, check_choice
from shared.embeddings._sphere import check_unit
from shared.embeddings._validation import as_data, as_distances, check_neighbours
from shared.stats import pearson

GEOMETRIES = ("euclidean", "sphere")


def distance_matrix(X: np.ndarray, *, geometry: str = "euclidean") -> np.ndarray:
    """Pairwise distances of points.

    Parameters
    ----------
    X : (n, d) array
        Two points at least; unit vectors for a sphere.
    geometry : "euclidean" or "sphere"
        Straight lines, or arcs in radians.

    Returns
    -------
    (n, n) float64
        Symmetric, zero on the diagonal.
    """
    check_choice("geometry", geometry, GEOMETRIES)
    X = as_data("X", X, min_points=2)
    if geometry == "euclidean":
        return squareform(pdist(X))
    check_unit("X", X)
    return 2 * np.arcsin(np.clip(squareform(pdist(X)) / 2, 0, 1))  # exact for small arcs, unlike arccos


def _pair(D: np.ndarray, E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    D = as_distances("D", D)
    return D, as_distances("E", E, n=len(D))


def pearson_of(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two arrays' entries; NaN if one is constant."""
    return float(pearson(np.ravel(a), np.ravel(b)))


def nearest_neighbours(D: np.ndarray, k: int) -> np.ndarray:
    """Each point's k nearest others.

    Parameters
    ----------
    D : (n, n) array
        Distances.
    k : int
        1 to n - 1.

    Returns
    -------
    (n, k) int64
        Indices, nearest first; ties by index.
    """
    D = as_distances("D", D)
    check_neighbours(k, len(D))
    D = D.copy()
    np.fill_diagonal(D, -1.0)
    return np.argsort(D, axis=1, kind="stable")[:, 1 : k + 1]


def knn_radii(D: np.ndarray, k: int) -> np.ndarray:
    """Distance of each point to its k-th nearest other: large where the points lie sparse.

    Parameters
    ----------
    D : (n, n) array
        Distances.
    k : int
        1 to n - 1.

    Returns
    -------
    (n,) float64
        In the distances' unit.
    """
    D = as_distances("D", D)
    check_neighbours(k, len(D))
    return np.partition(D, k, axis=1)[:, k]  # position 0 is the point itself


def global_corr(D: np.ndarray, E: np.ndarray) -> float:
    """ρ: Pearson correlation of all pairwise distances.

    Parameters
    ----------
    D, E : (n, n) arrays
        Distances in the data and in the map.

    Returns
    -------
    float
        In [-1, 1]; NaN where all distances are the same.
    """
    D, E = _pair(D, E)
    upper = np.triu_indices(len(D), 1)
    return pearson_of(D[upper], E[upper])


def local_corr(D: np.ndarray, E: np.ndarray, *, k: int = 100, match: str = "index") -> float:
    """ρ_knn: Pearson correlation of the distances to the k nearest neighbours.

    Parameters
    ----------
    D, E : (n, n) arrays
        Distances in the data and in the map.
    k : int
        Neighbours.
    match : "index" or "rank"
        Compare the distances to the same points, the data's neighbours; or the data's and the map's own lists by rank,
        whoever the neighbours are.

    Returns
    -------
    float
        In [-1, 1].
    """
    check_choice("match", match, ("index", "rank"))
    D, E = _pair(D, E)
    near = nearest_neighbours(D, k)
    here = np.take_along_axis(D, near, 1)
    if match == "index":
        return pearson_of(here, np.take_along_axis(E, near, 1))
    return pearson_of(here, np.sort(E, axis=1)[:, 1 : k + 1])


def radius_corr(D: np.ndarray, E: np.ndarray, *, k: int = 100, kind: str = "ratio") -> float:
    """ρ_r: agreement of relative densities, measured by the distance r_i to the k-th neighbour.

    Parameters
    ----------
    D, E : (n, n) arrays
        Distances in the data and in the map.
    k : int
        Below the smallest cluster's size, or r is a distance between clusters.
    kind : "ratio" or "log"
        Pearson correlation of all ratios r_i / r_j, i ≠ j, or of log r_i, less ruled by a few large ratios.

    Returns
    -------
    float
        In [-1, 1].
    """
    check_choice("kind", kind, ("ratio", "log"))
    D, E = _pair(D, E)
    r = knn_radii(D, k)
    s = knn_radii(E, k)
    if min(r.min(), s.min()) <= 0:
        raise ValueError(f"some point has its {k} nearest others at distance 0; raise k or drop duplicates")
    if kind == "log":
        return pearson_of(np.log(r), np.log(s))
    off = ~np.eye(len(r), dtype=bool)
    return pearson_of((r[:, None] / r)[off], (s[:, None] / s)[off])


def knn_recall(D: np.ndarray, E: np.ndarray, *, k: int = 15) -> float:
    """Mean share of the data's k nearest neighbours that are among the map's k nearest (neighbourhood preservation).

    Parameters
    ----------
    D, E : (n, n) arrays
        Distances in the data and in the map.
    k : int
        Neighbours.

    Returns
    -------
    float
        In [0, 1]; chance is k / (n - 1). With equal distances, the mean over breaking ties at random in either: chance
        where all points of one coincide.
    """
    D, E = _pair(D, E)
    check_neighbours(k, len(D))
    return float((_among_nearest(D, k) * _among_nearest(E, k)).sum(1).mean() / k)


def _tie_ranks(D: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many others are nearer to i than j, and how many no farther (n, n); both n for i itself."""
    n = len(D)
    order = nearest_neighbours(D, n - 1)
    near = np.take_along_axis(D, order, 1)
    starts = np.ones((n, n), dtype=bool)  # of a run of equal distances; the last column ends the last run
    starts[:, 1:-1] = near[:, 1:] != near[:, :-1]
    at = np.arange(n)
    nearer, upto = np.full((n, n), n), np.full((n, n), n)
    np.put_along_axis(nearer, order, np.maximum.accumulate(np.where(starts[:, :-1], at[:-1], 0), 1), 1)
    ends = np.minimum.accumulate(np.where(starts[:, 1:], at[1:], n)[:, ::-1], 1)[:, ::-1]
    np.put_along_axis(upto, order, ends, 1)
    return nearer, upto


def _among_nearest(D: np.ndarray, k: int) -> np.ndarray:
    """Chance that j is among the k nearest of i, ties broken at random (n, n)."""
    nearer, upto = _tie_ranks(D)
    return ((k - nearer) / np.maximum(upto - nearer, 1)).clip(0, 1)


def trustworthiness(D: np.ndarray, E: np.ndarray, *, k: int = 5) -> float:
    """1 minus the penalty for points near in the map and far in the data (Venna & Kaski 2001), as scikit-learn's.

    With D and E swapped it is the continuity.

    Parameters
    ----------
    D, E : (n, n) arrays
        Distances in the data and in the map.
    k : int
        Neighbours, below n / 2.

    Returns
    -------
    float
        In [0, 1]. With equal distances, the mean over breaking ties at random in either.
    """
    D, E = _pair(D, E)
    n = len(D)
    check_neighbours(k, n)
    if not k < n / 2:
        raise ValueError(f"k={k} must be below n / 2 = {n / 2:g} for the penalty's scale to hold")
    nearer, upto = _tie_ranks(D)  # ranks from nearer + 1 to upto, each as likely
    first = np.maximum(nearer, k) + 1
    excess = np.maximum(upto - first + 1, 0) * ((first + upto) / 2 - k) / np.maximum(upto - nearer, 1)
    return float(1 - (excess * _among_nearest(E, k)).sum() * 2 / (n * k * (2 * n - 3 * k - 1)))


def nos_curve(D: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Neighbourhood overlap score for k = 1 … n - 1 (Heiter et al. 2021).

    Parameters
    ----------
    D : (n, n) array
        Distances, mostly the map's.
    other : (n, n) distances or (n,) labels
        For distances the score is the mean share of common k nearest neighbours, for labels the mean share of a point's
        fellows that are among its k nearest.

    Returns
    -------
    (n - 1,) float64
        Chance is the diagonal k / (n - 1).
    """
    D = as_distances("D", D)
    n = len(D)
    order = nearest_neighbours(D, n - 1)
    other = np.asarray(other)
    if other.ndim == 1:
        if len(other) != n:
            raise ValueError(f"other has {len(other)} labels for {n} points")
        same = other[order] == other[:, None]
        fellows = same.sum(1)
        if not fellows.any():
            raise ValueError("other: no two points share a label; the score needs groups")
        some = fellows > 0
        return (same[some].cumsum(1) / fellows[some][:, None]).mean(0)
    second = nearest_neighbours(as_distances("other", other, n=n), n - 1)
    rank = np.empty((n, n), dtype=np.int64)
    np.put_along_axis(rank, second, np.arange(n - 1)[None, :], 1)
    enters = np.maximum(np.take_along_axis(rank, order, 1), np.arange(n - 1))  # k - 1 at which a point is in both
    common = np.bincount(enters.ravel(), minlength=n - 1).cumsum()
    return common / (n * np.arange(1, n))


def nos_area(curve: np.ndarray) -> float:
    """Signed area between a neighbourhood overlap curve and the diagonal of chance.

    Parameters
    ----------
    curve : (n - 1,) array
        From `nos_curve`.

    Returns
    -------
    float
        0 for chance, up to 1/2.
    """
    curve = np.asarray(curve, dtype=np.float64)
    check_array("curve", curve, ("n - 1",))
    chance = np.arange(1, len(curve) + 1) / len(curve)
    return float(np.trapezoid(np.r_[0.0, curve - chance], np.r_[0.0, chance]))


def rms_radii(X: np.ndarray, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Root mean square distance of each label's points from their centroid.

    Parameters
    ----------
    X : (n, d) array
        Points.
    labels : (n,) array
        A group each.

    Returns
    -------
    (groups,) float64
        In the order of the sorted labels.
    """
    X = as_data("X", X, min_points=1)
    labels = np.asarray(labels)
    check_array("labels", labels, (len(X),))
    spread = (X[labels == name].var(0).sum() for name in np.unique(labels))
    return np.sqrt(np.fromiter(spread, dtype=float))
