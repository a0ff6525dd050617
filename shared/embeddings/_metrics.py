"""How faithful a map is: distances, densities, neighbourhoods, angles. All take plain distances and return numbers.

D, E : (n, n) distances in the data and in the map, from `distances`; nothing here depends on their units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from shared._checks import check_array, check_choice
from shared.embeddings._sphere import check_unit
from shared.embeddings._validation import as_data, as_distances, check_neighbours
from shared.stats import pearson

GEOMETRIES = ("euclidean", "sphere")


def distances(X: np.ndarray, geometry: str = "euclidean") -> np.ndarray:
    """Pairwise distances (n, n) of points (n, d): straight lines, or arcs in radians for unit vectors on a sphere."""
    check_choice("geometry", geometry, GEOMETRIES)
    X = as_data("X", X, min_points=2)
    if geometry == "euclidean":
        return squareform(pdist(X))
    check_unit("X", X)
    return 2 * np.arcsin(np.clip(squareform(pdist(X)) / 2, 0, 1))  # exact for small arcs, unlike arccos


def _pair(D: np.ndarray, E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    D = as_distances("D", D)
    return D, as_distances("E", E, n=len(D))


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    return float(pearson(np.ravel(a), np.ravel(b)))


def nearest(D: np.ndarray, k: int) -> np.ndarray:
    """Indices (n, k) of each point's k nearest others, nearest first; ties by index."""
    D = as_distances("D", D)
    check_neighbours(k, len(D))
    D = D.copy()
    np.fill_diagonal(D, -1.0)
    return np.argsort(D, axis=1, kind="stable")[:, 1 : k + 1]


def radii(D: np.ndarray, k: int) -> np.ndarray:
    """Distance of each point to its k-th nearest other (n,): large where the points lie sparse."""
    D = as_distances("D", D)
    check_neighbours(k, len(D))
    return np.partition(D, k, axis=1)[:, k]  # position 0 is the point itself


def global_corr(D: np.ndarray, E: np.ndarray) -> float:
    """ρ: Pearson correlation of all pairwise distances."""
    D, E = _pair(D, E)
    upper = np.triu_indices(len(D), 1)
    return _pearson(D[upper], E[upper])


def local_corr(D: np.ndarray, E: np.ndarray, k: int = 100, *, match: str = "index") -> float:
    """ρ_knn: Pearson correlation of the distances to the k nearest neighbours.

    match : "index" compares the distances to the same points, the data's neighbours; "rank" compares the data's and the
    map's own lists by rank, whoever the neighbours are.
    """
    check_choice("match", match, ("index", "rank"))
    D, E = _pair(D, E)
    near = nearest(D, k)
    here = np.take_along_axis(D, near, 1)
    if match == "index":
        return _pearson(here, np.take_along_axis(E, near, 1))
    return _pearson(here, np.sort(E, axis=1)[:, 1 : k + 1])


def radius_corr(D: np.ndarray, E: np.ndarray, k: int = 100, *, kind: str = "ratio") -> float:
    """ρ_r: agreement of relative densities, measured by the distance r_i to the k-th neighbour.

    kind : "ratio" is the Pearson correlation of all ratios r_i / r_j, i ≠ j; "log" that of log r_i, less ruled by a few
    large ratios. k must be below the smallest cluster's size, or r is a distance between clusters.
    """
    check_choice("kind", kind, ("ratio", "log"))
    D, E = _pair(D, E)
    r, s = radii(D, k), radii(E, k)
    if min(r.min(), s.min()) <= 0:
        raise ValueError(f"some point has its {k} nearest others at distance 0; raise k or drop duplicates")
    if kind == "log":
        return _pearson(np.log(r), np.log(s))
    off = ~np.eye(len(r), dtype=bool)
    return _pearson((r[:, None] / r)[off], (s[:, None] / s)[off])


def knn_recall(D: np.ndarray, E: np.ndarray, k: int = 15) -> float:
    """Mean share of the data's k nearest neighbours that are among the map's k nearest (neighbourhood preservation)."""
    D, E = _pair(D, E)
    return float(_overlap(nearest(D, k), nearest(E, k)).mean())


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Share of row-wise common indices (n,)."""
    n, k = a.shape
    member = np.zeros((n, n), dtype=bool)
    np.put_along_axis(member, a, True, 1)
    return np.take_along_axis(member, b, 1).sum(1) / k


def trustworthiness(D: np.ndarray, E: np.ndarray, k: int = 5) -> float:
    """1 minus the penalty for points near in the map and far in the data (Venna & Kaski 2001), as scikit-learn's.

    With D and E swapped it is the continuity. k must be below n / 2.
    """
    D, E = _pair(D, E)
    n = len(D)
    if not k < n / 2:
        raise ValueError(f"k={k} must be below n / 2 = {n / 2:g} for the penalty's scale to hold")
    rank = np.empty((n, n), dtype=np.int64)
    np.put_along_axis(rank, nearest(D, n - 1), np.arange(1, n)[None, :], 1)
    excess = np.take_along_axis(rank, nearest(E, k), 1) - k
    return float(1 - excess.clip(min=0).sum() * 2 / (n * k * (2 * n - 3 * k - 1)))


def nos_curve(D: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Neighbourhood overlap score for k = 1 … n-1 (Heiter et al. 2021): (n-1,).

    D : distances, mostly the map's. other : (n, n) distances — the mean share of common k nearest neighbours; or (n,)
    labels — the mean share of a point's fellows that are among its k nearest. Chance is the diagonal k / (n-1).
    """
    D = as_distances("D", D)
    n = len(D)
    order = nearest(D, n - 1)
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
    second = nearest(as_distances("other", other, n=n), n - 1)
    rank = np.empty((n, n), dtype=np.int64)
    np.put_along_axis(rank, second, np.arange(n - 1)[None, :], 1)
    enters = np.maximum(np.take_along_axis(rank, order, 1), np.arange(n - 1))  # k - 1 at which a point is in both
    common = np.bincount(enters.ravel(), minlength=n - 1).cumsum()
    return common / (n * np.arange(1, n))


def nos_area(curve: np.ndarray) -> float:
    """Signed area between a neighbourhood overlap curve and the diagonal of chance: 0 for none, up to 1/2."""
    curve = np.asarray(curve, dtype=np.float64)
    check_array("curve", curve, ("n - 1",))
    chance = np.arange(1, len(curve) + 1) / len(curve)
    return float(np.trapezoid(np.r_[0.0, curve - chance], np.r_[0.0, chance]))


def triples(n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` random triples (i, j, k) of three different points: (count, 3); the angle is taken at the first."""
    if n < 3:
        raise ValueError(f"n={n}: an angle needs three points")
    i = rng.integers(n, size=count)
    j = (i + rng.integers(1, n, size=count)) % n
    k = rng.integers(n - 2, size=count)
    low, high = np.minimum(i, j), np.maximum(i, j)
    k += k >= low
    k += k >= high
    return np.stack([i, j, k], 1)


def angles(X: np.ndarray, at: np.ndarray, geometry: str = "euclidean") -> np.ndarray:
    """Angles in radians at the first point of each triple (m, 3): planar, or between great circles on a sphere.

    NaN where the angle is undefined: two of the points coincide, or on a sphere are antipodes.
    """
    check_choice("geometry", geometry, GEOMETRIES)
    X, at = as_data("X", X, min_points=3), np.asarray(at)
    check_array("at", at, ("m", 3))
    return _angles("X", X, at, geometry)


def _angles(argument: str, X: np.ndarray, at: np.ndarray, geometry: str = "euclidean") -> np.ndarray:
    i, j, k = (X[at[:, c]] for c in range(3))
    to_j, to_k = j - i, k - i
    if geometry == "sphere":
        check_unit(argument, X)
        to_j, to_k = (t - (t * i).sum(1, keepdims=True) * i for t in (to_j, to_k))
    lengths = np.linalg.norm(to_j, axis=1) * np.linalg.norm(to_k, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.where(lengths > 1e-15, (to_j * to_k).sum(1) / lengths, np.nan)
    return np.arccos(np.clip(cosine, -1, 1))


def _data_and_map(X: np.ndarray, Y: np.ndarray, geometry: str) -> tuple[np.ndarray, np.ndarray]:
    check_choice("geometry", geometry, GEOMETRIES)
    X, Y = as_data("X", X, min_points=3), as_data("Y", Y, min_points=3)
    if len(X) != len(Y):
        raise ValueError(f"Y is of {len(Y)} points, X of {len(X)}; both must describe the same points")
    return X, Y


def angle_corr(
    X: np.ndarray, Y: np.ndarray, *, geometry: str = "euclidean", n_triples: int = 20_000, rng: np.random.Generator
) -> float:
    """Pearson correlation of the angles of random triples in the data X and in the map Y (of the given geometry)."""
    X, Y = _data_and_map(X, Y, geometry)
    at = triples(len(X), n_triples, rng)
    a, b = _angles("X", X, at), _angles("Y", Y, at, geometry)
    good = np.isfinite(a) & np.isfinite(b)
    return _pearson(a[good], b[good])


def angle_errors(
    X: np.ndarray,
    Y: np.ndarray,
    *,
    geometry: str = "euclidean",
    n_triples: int = 20_000,
    n_bins: int = 5,
    rng: np.random.Generator,
) -> np.ndarray:
    """Mean absolute angle error in degrees, from the most local fifth of the triples to the most global: (n_bins,).

    A triple's scale is its longest side at the angle, in the data.
    """
    X, Y = _data_and_map(X, Y, geometry)
    at = triples(len(X), n_triples, rng)
    a, b = _angles("X", X, at), _angles("Y", Y, at, geometry)
    sides = np.linalg.norm(X[at[:, 1:]] - X[at[:, :1]], axis=2).max(1)
    good = np.isfinite(a) & np.isfinite(b)
    error = np.degrees(np.abs(a - b)[good])
    bins = ((rankdata(sides[good], method="ordinal") - 1) * n_bins / good.sum()).astype(int)
    return np.bincount(bins, weights=error, minlength=n_bins) / np.bincount(bins, minlength=n_bins)


def rms_radii(X: np.ndarray, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Root mean square distance of each label's points from their centroid, in the order of the labels."""
    X, labels = as_data("X", X, min_points=1), np.asarray(labels)
    check_array("labels", labels, (len(X),))
    spread = (X[labels == name].var(0).sum() for name in np.unique(labels))
    return np.sqrt(np.fromiter(spread, dtype=float))
