"""Affinities: from the definition, against scikit-learn, openTSNE and dtsnejedi, invariances, duplicates, bad input."""

from pathlib import Path

import numpy as np
import pytest
import torch

from shared.embeddings import (
    DTSNE,
    affinities,
    bandwidths,
    density_scale,
    distance_matrix,
    neighbour_affinities,
    radius_corr,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "dtsnejedi.npz"


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return rng.standard_normal((90, 5)) * rng.uniform(0.5, 4, (90, 1))


def entropy_bits(p):
    p = p[p > 0]
    return -(p * np.log2(p)).sum()


@pytest.mark.parametrize("perplexity", [3.0, 10.0, 25.0])
def test_bandwidths_have_the_wanted_perplexity(X, perplexity):
    _, sigma = affinities(X, perplexity=perplexity)
    D = distance_matrix(X)
    for i in range(len(X)):
        p = np.exp(-(D[i] ** 2) / (2 * sigma[i].item() ** 2))
        p[i] = 0
        assert 2 ** entropy_bits(p / p.sum()) == pytest.approx(perplexity, rel=1e-6)


def test_bandwidth_where_newton_steps_go_round_in_circles():
    """A lone point's neighbours (squared distances above the nearest one's): plain Newton steps cycle for ever."""
    tenths = (
        "0 247 353 1003 1019 1219 1728 1817 2085 3442 3513 3669 3908 4424 4478 4652 4802 4809 4836 5137 5311 "
        "5353 5434 5504 5615 5678 5685 5766 5825 5834 5928 6224 6294 6404 6427 6508 6589 6598 6686 6708 6776 "
        "6832 6838 6874 6943 6948 6952 7006 7160 7289 7299 7351 7487 7582 7599 7619 7631 7636 7665 7771 7782 "
        "7898 7955 8078 8131 8134 8244 8275 8340 8358 8435 8455 8462 8505 8512 8529 8611 8673 8679 8715 8715 "
        "8748 8750 8752 8763 8772 8783 8795 8818 8822 "
    )
    row = [int(k) / 10 for k in tenths.split()]
    squared = torch.tensor([row, list(range(90))], dtype=torch.float64)
    for d, sigma in zip(squared, bandwidths(squared, 30.0), strict=True):
        p = torch.softmax(-d / (2 * sigma**2), 0).numpy()
        assert 2 ** entropy_bits(p) == pytest.approx(30, rel=1e-6)


def test_bandwidths_of_many_rows_are_those_of_few(monkeypatch):
    squared = torch.as_tensor(np.random.default_rng(3).gamma(2.0, size=(50, 30)))
    whole = bandwidths(squared, 8.0)
    monkeypatch.setattr("shared.embeddings._affinities._ROWS", 7)
    torch.testing.assert_close(bandwidths(squared, 8.0), whole, rtol=1e-8, atol=0)


@pytest.mark.parametrize("symmetrise", ["conditional", "sigma"])
def test_joint_probabilities_from_the_definition(X, symmetrise):
    P, sigma = affinities(X, perplexity=10.0, symmetrise=symmetrise)
    D, s, n = distance_matrix(X), sigma.numpy(), len(X)
    conditional = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            width = s[i] if symmetrise == "conditional" else (s[i] + s[j]) / 2
            conditional[i, j] = 0 if i == j else np.exp(-(D[i, j] ** 2) / (2 * width**2))
        conditional[i] /= conditional[i].sum()
    expected = (conditional + conditional.T) / (2 * n)
    np.testing.assert_allclose(P.numpy(), expected, atol=1e-12)
    assert P.sum().item() == pytest.approx(1, abs=1e-12)


def test_density_scale_from_the_definition(X):
    _, sigma = affinities(X, perplexity=10.0)
    s = sigma.numpy()
    gamma = (s[:, None] + s) ** -2.0
    off = gamma[~np.eye(len(s), dtype=bool)]
    np.testing.assert_allclose(density_scale(sigma).numpy(), gamma / off.max(), rtol=1e-12)


def test_equals_scikit_learn(X):
    from scipy.spatial.distance import squareform
    from sklearn.manifold._t_sne import _joint_probabilities

    squared = (distance_matrix(X) ** 2).astype(np.float32)
    theirs = squareform(_joint_probabilities(squared, 12.0, 0))
    np.testing.assert_allclose(affinities(X, perplexity=12.0)[0].numpy(), theirs, atol=2e-7)


def test_neighbours_equal_opentsne(X):
    affinity = pytest.importorskip("openTSNE.affinity")
    theirs = affinity.PerplexityBasedNN(X, perplexity=12, method="exact", n_jobs=1).P
    ours, _ = neighbour_affinities(X, perplexity=12.0)
    np.testing.assert_allclose(ours.toarray(), theirs.toarray(), atol=1e-8)


def test_equals_dtsnejedi():
    golden = np.load(GOLDEN, allow_pickle=False)
    P, sigma = affinities(golden["X"], perplexity=20.0, symmetrise="sigma")
    np.testing.assert_allclose(P.numpy(), golden["P"], atol=1e-8)
    theirs = golden["gamma"][~np.eye(len(P), dtype=bool)]
    np.testing.assert_allclose(density_scale(sigma).numpy()[~np.eye(len(P), dtype=bool)], theirs, rtol=1e-4)


@pytest.mark.parametrize("symmetrise", ["conditional", "sigma"])
def test_neighbour_graph_over_all_points_is_the_dense_one(X, symmetrise):
    dense, sigma = affinities(X, perplexity=29.6, symmetrise=symmetrise)
    sparse, sparse_sigma = neighbour_affinities(X, perplexity=29.6, symmetrise=symmetrise)  # 3 · 29.6 → all 89 others
    np.testing.assert_allclose(sparse.toarray(), dense.numpy(), atol=1e-12)
    np.testing.assert_allclose(sparse_sigma, sigma.numpy(), rtol=1e-8)


@pytest.mark.parametrize("symmetrise", ["conditional", "sigma"])
def test_scale_rotation_and_order(X, symmetrise):
    P, sigma = affinities(X, perplexity=10.0, symmetrise=symmetrise)
    rng = np.random.default_rng(1)
    turned = X @ np.linalg.qr(rng.standard_normal((5, 5)))[0] + 3
    np.testing.assert_allclose(affinities(7 * turned, perplexity=10.0, symmetrise=symmetrise)[0], P, atol=1e-9)
    order = rng.permutation(len(X))
    other, other_sigma = affinities(X[order], perplexity=10.0, symmetrise=symmetrise)
    np.testing.assert_allclose(other, P[order][:, order], atol=1e-12)
    np.testing.assert_allclose(density_scale(other_sigma), density_scale(sigma)[order][:, order], rtol=1e-6)


def test_precomputed_distances(X):
    ours, _ = affinities(distance_matrix(X), perplexity=10.0, metric="precomputed")
    np.testing.assert_allclose(ours, affinities(X, perplexity=10.0)[0], atol=1e-12)


def test_duplicates_get_a_floor_and_a_warning(X):
    X[:20] = X[0]
    with pytest.warns(UserWarning, match="20 points .* tied"):
        P, sigma = affinities(X, perplexity=10.0)
    assert bool(torch.isfinite(P).all())
    assert (sigma[:20] == sigma[20:].min()).all()


@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_duplicates_leave_the_density_of_the_others(method):
    X = np.random.default_rng(0).standard_normal((200, 5)) * np.repeat([1.0, 3.0], 100)[:, None]
    X[100:] += 30
    X[:25] = X[0]
    with pytest.warns(UserWarning, match="points .* tied"):
        Y = DTSNE(perplexity=15, max_iter=500, method=method, random_state=0).fit_transform(X)
    D, E = distance_matrix(X[25:]), distance_matrix(Y[25:])
    assert radius_corr(D, E, k=20, kind="log") > 0.6


def test_a_few_duplicates_are_ordinary(X, recwarn):
    X[1] = X[0]
    P, sigma = affinities(X, perplexity=10.0, symmetrise="sigma")
    assert bool(torch.isfinite(P).all())
    assert sigma.min() > 0
    assert not recwarn.list


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: (X[:8], 2.0), "8 points; at least 10"),
        (lambda X: (X, 40.0), "perplexity=40.0 does not fit 90 points"),
        (lambda X: (X, 1.0), "perplexity=1.0"),
        (lambda X: (np.where(X == X.max(), np.nan, X), 10.0), "NaN"),
        (lambda X: (X[:, 0], 10.0), "shape"),
        (lambda X: (np.ones_like(X), 10.0), "all distances are equal"),
    ],
)
@pytest.mark.parametrize("function", [affinities, neighbour_affinities])
def test_bad_data(X, change, message, function):
    data, perplexity = change(X)
    with pytest.raises(ValueError, match=message):
        function(data, perplexity=perplexity)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda D: D[:, :-1], "square"),
        (lambda D: D + np.triu(np.ones_like(D), 1), "not symmetric"),
        (lambda D: D - 1.0, "negative"),
        (lambda D: D + 1.0, "diagonal"),
        (lambda D: np.where(D == D.max(), np.inf, D), "infinite"),
    ],
)
def test_bad_distances(X, change, message):
    with pytest.raises(ValueError, match=message):
        affinities(change(distance_matrix(X)), perplexity=10.0, metric="precomputed")
