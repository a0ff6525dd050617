"""Quality metrics: slow re-implementations, scikit-learn, perfect and random maps, bad input."""

import numpy as np
import pytest

from shared.embeddings import (
    angle_corr,
    angle_errors,
    distance_matrix,
    from_lonlat,
    global_corr,
    knn_radii,
    knn_recall,
    local_corr,
    nearest_neighbours,
    nos_area,
    nos_curve,
    radius_corr,
    random_triples,
    rms_radii,
    triple_angles,
    trustworthiness,
)

K = 7


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 4)) * rng.uniform(0.5, 3, (50, 1))
    return X, X[:, :2] + 0.3 * rng.standard_normal((50, 2))


def test_against_slow_loops(pair):
    D, E = map(distance_matrix, pair)
    n = len(D)
    near, near_map = (
        [sorted((j for j in range(n) if j != i), key=lambda j: M[i, j])[:K] for i in range(n)] for M in (D, E)
    )
    here = [D[i, j] for i in range(n) for j in near[i]]
    matched = [E[i, j] for i in range(n) for j in near[i]]
    ranked = [E[i, j] for i in range(n) for j in near_map[i]]
    assert local_corr(D, E, k=K) == pytest.approx(np.corrcoef(here, matched)[0, 1])
    assert local_corr(D, E, k=K, match="rank") == pytest.approx(np.corrcoef(here, ranked)[0, 1])
    r, s = [D[i, near[i][-1]] for i in range(n)], [E[i, near_map[i][-1]] for i in range(n)]
    np.testing.assert_allclose(knn_radii(D, K), r)
    ratios = [(r[i] / r[j], s[i] / s[j]) for i in range(n) for j in range(n) if i != j]
    assert radius_corr(D, E, k=K) == pytest.approx(np.corrcoef(np.transpose(ratios))[0, 1])
    assert radius_corr(D, E, k=K, kind="log") == pytest.approx(np.corrcoef(np.log(r), np.log(s))[0, 1])
    assert knn_recall(D, E, k=K) == pytest.approx(np.mean([len({*a} & {*b}) / K for a, b in zip(near, near_map)]))
    pairs = [(D[i, j], E[i, j]) for i in range(n) for j in range(i)]
    assert global_corr(D, E) == pytest.approx(np.corrcoef(np.transpose(pairs))[0, 1])


@pytest.mark.parametrize("k", [1, 5, 20])
def test_trustworthiness_equals_scikit_learn(pair, k):
    from sklearn.manifold import trustworthiness as theirs

    X, Y = pair
    assert trustworthiness(distance_matrix(X), distance_matrix(Y), k=k) == pytest.approx(theirs(X, Y, n_neighbors=k))


def test_nearest_equals_scikit_learn(pair):
    from sklearn.neighbors import NearestNeighbors

    X, _ = pair
    np.testing.assert_array_equal(
        nearest_neighbours(distance_matrix(X), K),
        NearestNeighbors(n_neighbors=K).fit(X).kneighbors(return_distance=False),
    )


def test_a_moved_and_scaled_copy_is_perfect(pair):
    X, _ = pair
    rng = np.random.default_rng(1)
    Y = 3 * X @ np.linalg.qr(rng.standard_normal((4, 4)))[0] + 1
    D, E = distance_matrix(X), distance_matrix(Y)
    values = [
        global_corr(D, E),
        local_corr(D, E, k=K),
        local_corr(D, E, k=K, match="rank"),
        radius_corr(D, E, k=K),
        radius_corr(D, E, k=K, kind="log"),
        knn_recall(D, E, k=K),
        trustworthiness(D, E, k=K),
        nos_curve(D, E).min(),
        angle_corr(X, Y, generator=rng),
    ]
    np.testing.assert_allclose(values, 1, atol=1e-9)
    np.testing.assert_allclose(angle_errors(X, Y, generator=rng), 0, atol=1e-5)


def test_row_order_does_not_matter(pair):
    order = np.random.default_rng(2).permutation(50)
    D, E = map(distance_matrix, pair)
    for metric in (global_corr, local_corr, radius_corr, knn_recall, trustworthiness):
        k = {} if metric is global_corr else {"k": K}
        assert metric(D[order][:, order], E[order][:, order], **k) == pytest.approx(metric(D, E, **k))


def test_overlap_curve_against_slow_loops(pair):
    D, E = map(distance_matrix, pair)
    n = len(D)
    curve = nos_curve(D, E)
    for k in (1, 3, 20, n - 1):
        assert curve[k - 1] == pytest.approx(knn_recall(D, E, k=k))
    labels = np.random.default_rng(3).integers(3, size=n)
    curve = nos_curve(D, labels)
    for k in (1, 10, n - 1):
        near = nearest_neighbours(D, k)
        shares = [
            (labels[near[i]] == labels[i]).sum() / ((labels == labels[i]).sum() - 1)
            for i in range(n)
            if (labels == labels[i]).sum() > 1
        ]
        assert curve[k - 1] == pytest.approx(np.mean(shares))
    assert curve[-1] == 1


def test_overlap_of_random_maps_is_chance():
    n, repeats = 60, 40
    rng = np.random.default_rng(4)
    areas = [
        nos_area(nos_curve(distance_matrix(rng.standard_normal((n, 2))), distance_matrix(rng.standard_normal((n, 2)))))
        for _ in range(repeats)
    ]
    # both maps put their central points near to everyone, which shifts chance a little: random ranks have none of it
    ranks = [nos_area(nos_curve(random_ranks(n, rng), random_ranks(n, rng))) for _ in range(repeats)]
    assert abs(np.mean(ranks)) < 3 * np.std(ranks) / np.sqrt(repeats)
    assert 0 <= np.mean(areas) < 0.03


def random_ranks(n, rng):
    D = np.triu(rng.uniform(1, 2, (n, n)), 1)
    return D + D.T


def test_area_bounds():
    n = 101
    assert nos_area(np.arange(1, n) / (n - 1)) == pytest.approx(0)
    assert nos_area(np.ones(n - 1)) == pytest.approx(0.5, abs=0.01)


def test_angles_of_known_triangles():
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 2]])
    at = np.array([[0, 1, 3], [0, 1, 2], [1, 0, 2], [2, 0, 1]])
    np.testing.assert_allclose(np.degrees(triple_angles(square, at)), [90, 45, 90, 45])
    octant = from_lonlat(np.radians([[0, 0], [90, 0], [0, 90]]))
    at = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    np.testing.assert_allclose(np.degrees(triple_angles(octant, at, geometry="sphere")), 90)  # angle sum 270°, not 180°


def test_small_spherical_triangles_are_flat():
    rng = np.random.default_rng(5)
    flat = rng.uniform(-1, 1, (30, 2))
    at = random_triples(30, 500, generator=rng)
    for size, bound in ((1e-1, 2.0), (1e-3, 1e-3)):
        error = np.degrees(
            np.abs(triple_angles(from_lonlat(size * flat), at, geometry="sphere") - triple_angles(flat, at))
        ).max()
        assert error < bound


def test_arcs():
    points = from_lonlat(np.radians([[0, 0], [90, 0], [180, 0], [1e-6, 0]]))
    D = np.degrees(distance_matrix(points, geometry="sphere"))
    np.testing.assert_allclose(D[0], [0, 90, 180, 1e-6], rtol=1e-6, atol=1e-12)


def test_triples_are_three_different_points():
    at = random_triples(4, 5000, generator=np.random.default_rng(6))
    assert (np.sort(at, 1)[:, 1:] != np.sort(at, 1)[:, :-1]).all()
    counts = np.unique(at, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert counts.min() > 140  # 208 expected, standard deviation 14


def test_coincident_points_have_no_angle():
    X = np.array([[0.0, 0], [0, 0], [1, 0]])
    assert np.isnan(triple_angles(X, np.array([[0, 1, 2]]))).all()


def test_rms_radii():
    X = np.array([[1.0, 0], [-1, 0], [5, 2], [5, -2]])
    np.testing.assert_allclose(rms_radii(X, [0, 0, 1, 1]), [1, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda D, E: global_corr(D, E[:-1, :-1]), "E is of 49 points"),
        (lambda D, E: local_corr(D, E, k=50), "k=50"),
        (lambda D, E: local_corr(D, E, k=K, match="name"), "match='name'"),
        (lambda D, E: radius_corr(D, E, k=0), "k=0"),
        (lambda D, E: trustworthiness(D, E, k=25), "below n / 2"),
        (lambda D, E: nos_curve(D, np.zeros(3)), "3 labels for 50 points"),
        (lambda D, E: nos_curve(D, np.arange(50)), "share a label"),
        (lambda D, E: distance_matrix(D, geometry="torus"), "geometry='torus'"),
        (lambda D, E: distance_matrix(D, geometry="sphere"), "unit vectors"),
        (lambda D, E: random_triples(2, 5, generator=np.random.default_rng(0)), "three points"),
        (lambda D, E: rms_radii(D, [0]), "labels has shape"),
        (lambda D, E: triple_angles(D, np.array([[0, 1, 50]])), "at must hold indices"),
        (lambda D, E: triple_angles(D, np.array([[0.0, 1, 2]])), "at must hold indices"),
    ],
)
def test_bad_input(pair, call, message):
    with pytest.raises(ValueError, match=message):
        call(*map(distance_matrix, pair))


def broken_ties(D):
    """The distances with their ties broken in every order (few points of a line)."""
    rng = np.random.default_rng(0)
    for _ in range(4000):
        yield D + np.triu(rng.uniform(0, 1e-6, D.shape), 1) + np.tril(rng.uniform(0, 1e-6, D.shape), -1)


def nearest(D, k):
    D = D.copy()
    np.fill_diagonal(D, -1)
    return np.argsort(D, 1)[:, 1 : k + 1]


def test_ties_are_broken_at_random_on_average():
    """Integer positions on a line against random ones: the value is the mean over random orders of equal distances."""
    positions = np.array([0.0, 1, 1, 2, 3, 3, 3, 5])
    D = np.abs(positions[:, None] - positions)
    other = np.random.default_rng(1).standard_normal(8)
    E, n, k = np.abs(other[:, None] - other), 8, 3
    shares, penalties, swapped = [], [], []
    fixed = nearest(E, n - 1)
    for one in broken_ties(D):
        near = nearest(one, n - 1)
        shares.append(np.mean([len(set(a[:k]) & set(b[:k])) / k for a, b in zip(near, fixed)]))
        for found, (of, by) in ((penalties, (near, fixed)), (swapped, (fixed, near))):
            excess = [max(0, list(of[i]).index(j) + 1 - k) for i in range(n) for j in by[i, :k]]
            found.append(1 - sum(excess) * 2 / (n * k * (2 * n - 3 * k - 1)))
    assert knn_recall(D, E, k=k) == pytest.approx(np.mean(shares), abs=0.004)
    assert knn_recall(E, D, k=k) == knn_recall(D, E, k=k)
    assert trustworthiness(D, E, k=k) == pytest.approx(np.mean(penalties), abs=0.006)
    assert trustworthiness(E, D, k=k) == pytest.approx(np.mean(swapped), abs=0.006)


@pytest.mark.parametrize("n", [9, 20])
def test_points_that_coincide_give_chance_in_any_order(n):
    """Ranks from 1 to n - 1 are as likely: the mean excess over k is (n - 1 - k)(n - k) / 2(n - 1)."""
    E, k, nothing = distance_matrix(np.random.default_rng(0).standard_normal((n, 2))), 3, np.zeros((n, n))
    excess = (n - 1 - k) * (n - k) / (2 * (n - 1))
    for pair in ((nothing, E), (E, nothing), (nothing, nothing)):
        assert knn_recall(*pair, k=k) == pytest.approx(k / (n - 1))
        assert trustworthiness(*pair, k=k) == pytest.approx(1 - excess * 2 / (2 * n - 3 * k - 1))
    order = np.random.default_rng(1).permutation(n)
    positions = np.round(np.random.default_rng(2).uniform(0, 4, n))
    D = np.abs(positions[:, None] - positions)
    shuffled = D[np.ix_(order, order)], E[np.ix_(order, order)]
    assert knn_recall(D, E, k=k) == pytest.approx(knn_recall(*shuffled, k=k))
    assert trustworthiness(D, E, k=k) == pytest.approx(trustworthiness(*shuffled, k=k))
