"""Points with a known layout: sizes, densities and shapes are the ones that were asked for."""

import numpy as np
import pytest

from shared.worlds import (
    circle_points,
    gaussian_clusters,
    lift_dimensions,
    smiley_points,
    sphere_points,
    two_view_clusters,
    uniform_clusters,
)


def rng():
    return np.random.default_rng(0)


def test_gaussians_have_their_sizes_centres_and_spreads():
    centres = np.array([[0.0, 10.0], [5.0, 0.0]])
    X, labels = gaussian_clusters([4000, 2000], [1, 3], 2, generator=rng(), centres=centres)
    assert np.bincount(labels).tolist() == [4000, 2000]
    for c, spread in enumerate((1, 3)):
        np.testing.assert_allclose(X[labels == c].mean(0), centres[c], atol=0.2)
        np.testing.assert_allclose(X[labels == c].std(0), spread, rtol=0.05)


def test_cubes_have_their_sides():
    X, labels = uniform_clusters([5000, 5000], [1, 4], 3, generator=rng())
    for c, spread in enumerate((1, 4)):
        np.testing.assert_allclose(np.ptp(X[labels == c], axis=0), 2 * spread, rtol=0.01)


def test_two_views_are_independent_and_live_in_their_columns():
    X, a, b = two_view_clusters(4000, generator=rng())
    joint = np.histogram2d(a, b, bins=4)[0] / 4000
    np.testing.assert_allclose(joint, np.outer(np.bincount(a), np.bincount(b)) / 4000**2, atol=0.015)
    np.testing.assert_allclose(np.bincount(a) / 4000, [0.1, 0.2, 0.3, 0.4], atol=0.03)
    within = [X[a == c, :8].std(0).mean() for c in range(4)]
    np.testing.assert_allclose(within, [0.1, 0.2, 0.3, 0.4], rtol=0.1)
    np.testing.assert_allclose(X[:, 12:].std(0), 1, rtol=0.05)


def test_lifting_keeps_distances_and_adds_the_noise():
    X = rng().standard_normal((50, 2))
    flat = lift_dimensions(X, 30, 0.0, generator=rng())
    np.testing.assert_allclose(flat @ flat.T, X @ X.T, atol=1e-9)
    noisy = lift_dimensions(np.zeros((400, 2)), 30, 0.5, generator=rng())
    assert noisy.std() == pytest.approx(0.5, rel=0.05)
    with pytest.raises(ValueError, match="d=1 is below"):
        lift_dimensions(X, 1, 0.0, generator=rng())


def test_shapes_lie_where_their_names_say():
    X, angle = circle_points(100, generator=rng(), radius=3.0)
    np.testing.assert_allclose(np.hypot(*X.T), 3)
    np.testing.assert_allclose(np.arctan2(X[:, 1], X[:, 0]), angle)
    X, height = sphere_points(100, generator=rng())
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 5)
    np.testing.assert_allclose(X[:, 2], 5 * height)
    X, part = smiley_points(603, generator=rng())
    assert np.bincount(part).tolist() == [303, 100, 100, 100]
    np.testing.assert_allclose(np.hypot(*X[part == 0].T), 5, atol=0.3)
    left, right = X[part == 1].mean(0), X[part == 2].mean(0)
    assert left[0] < 0 < right[0]
    assert left[1] > X[part == 3][:, 1].mean()


def test_sizes_and_spreads_go_together():
    for make in (gaussian_clusters, uniform_clusters):
        with pytest.raises(ValueError, match="sizes has 2 entries, spreads 1"):
            make([3, 3], [1], 2, generator=rng())
