"""Synthetic data of the embeddings papers: clusters of known density, two views, shapes in many dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared._checks import check_array, check_range


def _labels(sizes: Sequence[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def gaussian_clusters(
    sizes: Sequence[int],
    spreads: Sequence[float],
    d: int,
    rng: np.random.Generator,
    *,
    centres: np.ndarray | None = None,
    extent: float = 50.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Isotropic Gaussians: data (n, d) and labels (n,).

    spreads : standard deviation of each; centres : (clusters, d), or drawn uniformly from [0, extent]^d.
    """
    if len(sizes) != len(spreads):
        raise ValueError(f"sizes has {len(sizes)} entries, spreads {len(spreads)}; one of each is needed per cluster")
    if centres is None:
        centres = rng.uniform(0, extent, (len(sizes), d))
    centres = np.asarray(centres, dtype=float)
    check_array("centres", centres, (len(sizes), d))
    labels = _labels(sizes)
    noise = rng.standard_normal((len(labels), d))
    return centres[labels] + np.asarray(spreads, dtype=float)[labels, None] * noise, labels


def uniform_clusters(
    sizes: Sequence[int], spreads: Sequence[float], d: int, rng: np.random.Generator, *, extent: float = 50.0
) -> tuple[np.ndarray, np.ndarray]:
    """Cubes with sides 2·spread and centres uniform in [0, extent]^d: data (n, d) and labels (n,)."""
    if len(sizes) != len(spreads):
        raise ValueError(f"sizes has {len(sizes)} entries, spreads {len(spreads)}; one of each is needed per cluster")
    centres, labels = rng.uniform(0, extent, (len(sizes), d)), _labels(sizes)
    noise = rng.uniform(-1, 1, (len(labels), d))
    return centres[labels] + np.asarray(spreads, dtype=float)[labels, None] * noise, labels


def two_view_clusters(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two independent clusterings in one data set: data (n, 14) and the labels (n,) of view A and view B.

    Source: JEDI and CONFETTI (Heiter et al. 2021, appendix B.3, by way of a replication report): columns 1-8 hold four
    clusters A, 9-12 four clusters B, 13-14 noise N(0, 1); centres N(0, variance 2) per coordinate, picked with
    probability .1, .2, .3, .4 and with standard deviation .1, .2, .3, .4.
    """
    check_range("n", n, 10)
    share = np.array([0.1, 0.2, 0.3, 0.4])
    parts, views = [], []
    for d in (8, 4):
        centres = rng.normal(0, np.sqrt(2), (4, d))
        label = rng.choice(4, size=n, p=share)
        parts.append(centres[label] + share[label, None] * rng.standard_normal((n, d)))
        views.append(label)
    return np.hstack([*parts, rng.standard_normal((n, 2))]), views[0], views[1]


def lift(X: np.ndarray, d: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """X (n, k) turned into a random k-dimensional subspace of R^d, plus noise N(0, noise²) in all d: (n, d)."""
    check_array("X", X, ("n", "k"))
    if X.shape[1] > d:
        raise ValueError(f"d={d} is below the {X.shape[1]} dimensions of X")
    basis = np.linalg.qr(rng.standard_normal((d, X.shape[1])))[0]
    return X @ basis.T + noise * rng.standard_normal((len(X), d))


def circle(n: int, rng: np.random.Generator, *, radius: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """Points on a circle (n, 2) and their angle (n,) for colouring."""
    angle = np.sort(rng.uniform(-np.pi, np.pi, n))
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1), angle


def smiley(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A face in the plane (n, 2): outline 0, left eye 1, right eye 2, mouth 3 as labels (n,)."""
    sizes = np.array([n - 3 * (n // 6), *[n // 6] * 3])
    labels = _labels(sizes)
    turn = rng.uniform(-np.pi, np.pi, n)
    radius = np.sqrt(rng.uniform(0, 1, n))
    face = 5 * np.stack([np.cos(turn), np.sin(turn)], 1)
    eye = 0.7 * radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
    bend = np.pi * (turn / (2 * np.pi) + 0.5) * 0.7 + np.pi * 1.15
    mouth = 3 * np.stack([np.cos(bend), np.sin(bend)], 1)
    X = np.select(
        [labels[:, None] == part for part in range(4)],
        [face, eye + np.array([-1.8, 1.6]), eye + np.array([1.8, 1.6]), mouth],
    )
    return X + 0.05 * rng.standard_normal((n, 2)), labels


def ball_surface(n: int, rng: np.random.Generator, *, radius: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """Points uniform on a sphere (n, 3) and their height in [-1, 1] (n,) for colouring."""
    X = rng.standard_normal((n, 3))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return radius * X, X[:, 2]
