"""Points with a known layout: clusters of known density, two views, shapes in many dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared._checks import check_array, check_range

_SHARES = np.array([0.1, 0.2, 0.3, 0.4])  # of the clusters of a view, and their standard deviations


def gaussian_clusters(
    sizes: Sequence[int],
    spreads: Sequence[float],
    d: int,
    *,
    generator: np.random.Generator,
    centres: np.ndarray | None = None,
    extent: float = 50.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Isotropic Gaussians.

    Parameters
    ----------
    sizes : sequence of int
        Points of each cluster.
    spreads : sequence of float
        Standard deviation of each.
    d : int
        Dimensions.
    generator : numpy.random.Generator
    centres : ndarray, shape (clusters, d), optional
        Else drawn uniformly from [0, extent]^d.
    extent : float

    Returns
    -------
    X : ndarray, shape (n, d)
    labels : ndarray of int, shape (n,)
    """
    check_range("d", d, 1)
    labels = _labels(sizes, spreads)
    if centres is None:
        centres = generator.uniform(0, extent, (len(sizes), d))
    centres = np.asarray(centres, dtype=float)
    check_array("centres", centres, (len(sizes), d))
    noise = generator.standard_normal((len(labels), d))
    return centres[labels] + np.asarray(spreads, dtype=float)[labels, None] * noise, labels


def uniform_clusters(
    sizes: Sequence[int], spreads: Sequence[float], d: int, *, generator: np.random.Generator, extent: float = 50.0
) -> tuple[np.ndarray, np.ndarray]:
    """Cubes with sides 2·spread and centres uniform in [0, extent]^d.

    Parameters
    ----------
    sizes : sequence of int
        Points of each cluster.
    spreads : sequence of float
        Half the side of each.
    d : int
        Dimensions.
    generator : numpy.random.Generator
    extent : float

    Returns
    -------
    X : ndarray, shape (n, d)
    labels : ndarray of int, shape (n,)
    """
    labels = _labels(sizes, spreads)
    centres = generator.uniform(0, extent, (len(sizes), d))
    noise = generator.uniform(-1, 1, (len(labels), d))
    return centres[labels] + np.asarray(spreads, dtype=float)[labels, None] * noise, labels


def two_view_clusters(n: int, *, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two independent clusterings in one data set.

    JEDI and CONFETTI (Heiter et al. 2021, appendix B.3, by way of a replication report): columns 1-8 hold four clusters
    A, 9-12 four clusters B, 13-14 noise N(0, 1); centres N(0, variance 2) per coordinate, picked with probability .1,
    .2, .3, .4 and with standard deviation .1, .2, .3, .4.

    Parameters
    ----------
    n : int
        At least 10.
    generator : numpy.random.Generator

    Returns
    -------
    X : ndarray, shape (n, 14)
    a, b : ndarray of int, shape (n,)
        Labels of either view.
    """
    check_range("n", n, 10)
    parts, views = [], []
    for d in (8, 4):
        centres = generator.normal(0, np.sqrt(2), (4, d))
        label = generator.choice(4, size=n, p=_SHARES)
        parts.append(centres[label] + _SHARES[label, None] * generator.standard_normal((n, d)))
        views.append(label)
    return np.hstack([*parts, generator.standard_normal((n, 2))]), views[0], views[1]


def lift_dimensions(X: np.ndarray, d: int, noise: float, *, generator: np.random.Generator) -> np.ndarray:
    """Points turned into a random subspace of R^d, plus noise in all d dimensions.

    Parameters
    ----------
    X : ndarray, shape (n, k)
    d : int
        At least k.
    noise : float
        Standard deviation of the noise, per coordinate.
    generator : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n, d)
    """
    check_array("X", X, ("n", "k"))
    if X.shape[1] > d:
        raise ValueError(f"d={d} is below the {X.shape[1]} dimensions of X")
    basis = np.linalg.qr(generator.standard_normal((d, X.shape[1])))[0]
    return X @ basis.T + noise * generator.standard_normal((len(X), d))


def circle_points(n: int, *, generator: np.random.Generator, radius: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """Points on a circle.

    Parameters
    ----------
    n : int
    generator : numpy.random.Generator
    radius : float

    Returns
    -------
    X : ndarray, shape (n, 2)
    angle : ndarray, shape (n,)
        Ascending, for colouring.
    """
    angle = np.sort(generator.uniform(-np.pi, np.pi, n))
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1), angle


def smiley_points(n: int, *, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A face in the plane.

    Parameters
    ----------
    n : int
    generator : numpy.random.Generator

    Returns
    -------
    X : ndarray, shape (n, 2)
    part : ndarray of int, shape (n,)
        0 outline, 1 left eye, 2 right eye, 3 mouth.
    """
    sizes = np.array([n - 3 * (n // 6), *[n // 6] * 3])
    labels = np.repeat(np.arange(4), sizes)
    turn = generator.uniform(-np.pi, np.pi, n)
    radius = np.sqrt(generator.uniform(0, 1, n))
    face = 5 * np.stack([np.cos(turn), np.sin(turn)], 1)
    eye = 0.7 * radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
    bend = np.pi * (turn / (2 * np.pi) + 0.5) * 0.7 + np.pi * 1.15
    mouth = 3 * np.stack([np.cos(bend), np.sin(bend)], 1)
    X = np.select(
        [labels[:, None] == part for part in range(4)],
        [face, eye + np.array([-1.8, 1.6]), eye + np.array([1.8, 1.6]), mouth],
    )
    return X + 0.05 * generator.standard_normal((n, 2)), labels


def sphere_points(n: int, *, generator: np.random.Generator, radius: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """Points uniform on the surface of a ball.

    Parameters
    ----------
    n : int
    generator : numpy.random.Generator
    radius : float

    Returns
    -------
    X : ndarray, shape (n, 3)
    height : ndarray, shape (n,)
        In [-1, 1], for colouring.
    """
    X = generator.standard_normal((n, 3))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return radius * X, X[:, 2]


def _labels(sizes: Sequence[int], spreads: Sequence[float]) -> np.ndarray:
    if len(sizes) != len(spreads):
        raise ValueError(f"sizes has {len(sizes)} entries, spreads {len(spreads)}; one of each is needed per cluster")
    return np.repeat(np.arange(len(sizes)), sizes)
