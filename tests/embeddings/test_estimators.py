"""Estimators: what dtSNE promises, equality with t-SNE, reproducibility, warm starts, callbacks, bad input."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone

from shared.embeddings import (
    DTSNE,
    JEDI,
    Mercat,
    affinities,
    classical_scaling,
    density_scale,
    distance_matrix,
    kl_objective,
    label_distances,
    nos_area,
    nos_curve,
    rms_radii,
)
from shared.worlds import gaussian_clusters, two_view_clusters

GOLDEN = Path(__file__).parents[1] / "golden" / "dtsnejedi.npz"


@pytest.fixture(scope="module")
def clusters():
    return gaussian_clusters([60, 60, 60], [2, 4, 8], 20, generator=np.random.default_rng(0))


def test_plain_tsne_step_by_step(clusters):
    """With the density term off, each step is t-SNE's as van der Maaten wrote it (slow, over all pairs, float64)."""
    X, _ = clusters
    n = len(X)
    P = affinities(X, perplexity=15.0)[0].numpy()
    start = np.random.default_rng(5).standard_normal((n, 2))
    Y, velocity, gains = start.copy(), np.zeros((n, 2)), np.ones((n, 2))
    for step in range(30):
        exaggeration, momentum = (4.0, 0.5) if step < 12 else (1.0, 0.8)
        if step == 12:
            velocity, gains = np.zeros((n, 2)), np.ones((n, 2))
        W = 1 / (1 + ((Y[:, None] - Y[None]) ** 2).sum(-1))
        np.fill_diagonal(W, 0)
        Q = W / W.sum()
        gradient = np.stack([4 * ((exaggeration * P[i] - Q[i]) * W[i]) @ (Y[i] - Y) for i in range(n)])
        gains = np.where(gradient * velocity < 0, gains + 0.2, gains * 0.8).clip(0.01)
        velocity = momentum * velocity - 20.0 * gains * gradient
        Y = Y + velocity
        Y -= Y.mean(0)
    model = DTSNE(
        density=False,
        perplexity=15,
        max_iter=30,
        early_exaggeration=4,
        early_exaggeration_iter=12,
        lr=20.0,
        init=start,
        method="exact",
    )
    np.testing.assert_allclose(model.fit_transform(X), Y, atol=2e-3)


@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_density_is_kept_by_dtsne_and_lost_by_tsne(clusters, method):
    X, labels = clusters
    options = {"perplexity": 15, "max_iter": 400, "early_exaggeration_iter": 100, "method": method, "random_state": 0}
    ours = rms_radii(DTSNE(**options).fit_transform(X), labels)
    plain = rms_radii(DTSNE(density=False, **options).fit_transform(X), labels)
    np.testing.assert_allclose(ours / ours[0], [1, 2, 4], rtol=0.2)
    np.testing.assert_allclose(plain / plain[0], [1, 1, 1], rtol=0.2)


@pytest.mark.parametrize("density", [False, True])
def test_kl_is_that_of_the_embedding(clusters, density):
    X, _ = clusters
    model = DTSNE(perplexity=15, max_iter=50, density=density, method="exact").fit(X)
    P, sigma = affinities(X, perplexity=15, symmetrise="sigma" if density else "conditional")
    gamma = density_scale(sigma) if density else None
    assert model.kl_ == pytest.approx(
        kl_objective(torch.as_tensor(model.embedding_).double(), P, gamma=gamma)[0].item(), rel=1e-4
    )
    np.testing.assert_allclose(model.sigma_, sigma)


def nudged(X, n):
    """The data with noise far below their noise: descent is chaotic, so each ends elsewhere, as on other processors."""
    return [X + 1e-6 * X.std() * np.random.default_rng(s).standard_normal(X.shape) for s in range(n)]


def test_reaches_the_kl_of_dtsnejedi():
    golden = np.load(GOLDEN, allow_pickle=False)
    P, sigma = affinities(golden["X"], perplexity=20.0, symmetrise="sigma")
    theirs = kl_objective(torch.as_tensor(golden["Y"]).double(), P, gamma=density_scale(sigma))[0].item()
    ours = [DTSNE(perplexity=20, max_iter=1000).fit(X).kl_ for X in nudged(golden["X"], 3)]
    assert np.median(ours) < theirs + max(np.ptp(ours), 0.05 * theirs)


def test_reaches_the_kl_of_opentsne(clusters):
    """Medians over five starts, no further apart than the starts of each side are among themselves."""
    openTSNE = pytest.importorskip("openTSNE")
    ours, theirs = [], []
    for X in nudged(clusters[0], 5):
        P, _ = affinities(X, perplexity=15.0)
        peer = openTSNE.TSNE(perplexity=15, negative_gradient_method="bh", theta=0.0, random_state=0, n_jobs=1).fit(X)
        theirs.append(kl_objective(torch.as_tensor(np.asarray(peer)).double(), P)[0].item())
        ours.append(DTSNE(density=False, perplexity=15).fit(X).kl_)
    assert np.median(ours) < np.median(theirs) + np.ptp(theirs) + np.ptp(ours)


@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_same_seed_same_map(clusters, method):
    X, _ = clusters
    options = {"perplexity": 15, "max_iter": 60, "init": "random", "method": method}
    first, again, other = (DTSNE(random_state=s, **options).fit_transform(X) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_row_order_does_not_matter(clusters, method):
    X, _ = clusters
    order = np.random.default_rng(1).permutation(len(X))
    start = np.random.default_rng(2).standard_normal((len(X), 2))
    options = {"perplexity": 15, "max_iter": 20, "early_exaggeration_iter": 0, "method": method, "theta": 0.0}
    one = DTSNE(init=start, **options).fit_transform(X)
    two = DTSNE(init=start[order], **options).fit_transform(X[order])
    np.testing.assert_allclose(two, one[order], atol=2e-2)


def test_scaled_data_give_the_same_map(clusters):
    X, _ = clusters
    start = np.random.default_rng(2).standard_normal((len(X), 2))
    options = {"perplexity": 15, "max_iter": 20, "init": start}
    np.testing.assert_allclose(DTSNE(**options).fit_transform(10 * X), DTSNE(**options).fit_transform(X), atol=1e-2)


def test_warm_start_goes_on_and_callbacks_stop(clusters):
    X, _ = clusters
    seen = []
    model = DTSNE(
        perplexity=15, max_iter=400, early_exaggeration_iter=100, callback=lambda t, Y: seen.append(t) or t >= 150
    )
    first = model.fit(X).kl_
    assert seen == [50, 100, 150]
    assert model.n_iter_ == 150
    model.set_params(warm_start=True, early_exaggeration_iter=0, callback=None, max_iter=300).fit(X)
    assert model.kl_ < first


def test_scikit_learn_conventions(clusters):
    X, _ = clusters
    model = DTSNE(perplexity=15, max_iter=5, n_components=3)
    assert clone(model).get_params() == model.get_params()
    assert model.fit_transform(X).shape == (len(X), 3)
    np.testing.assert_array_equal(model.transform(X), model.embedding_)


def test_precomputed_distances_give_the_same_map(clusters):
    X, _ = clusters
    one = DTSNE(perplexity=15, max_iter=10).fit(X)
    two = DTSNE(perplexity=15, max_iter=10, metric="precomputed").fit(distance_matrix(X))
    np.testing.assert_allclose(distance_matrix(one.embedding_), distance_matrix(two.embedding_), atol=1e-4)


def test_classical_scaling_is_principal_components(clusters):
    X, _ = clusters
    from sklearn.decomposition import PCA

    np.testing.assert_allclose(
        distance_matrix(classical_scaling(distance_matrix(X))),
        distance_matrix(PCA(2).fit_transform(X)),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"perplexity": 70}, "perplexity=70"),
        ({"init": "umap"}, "init='umap'"),
        ({"init": np.zeros((3, 2))}, "init has shape"),
        ({"method": "fast"}, "method='fast'"),
        ({"metric": "mahalanobis"}, "metric='mahalanobis'"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"early_exaggeration": 0.5}, "early_exaggeration=0.5"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"method": "approximate", "n_components": 3}, "n_components=2"),
        ({"method": "approximate", "theta": 2.0}, "theta=2.0"),
    ],
)
def test_bad_options(clusters, options, message):
    with pytest.raises(ValueError, match=message):
        DTSNE(**options).fit(clusters[0])


def test_divergence_is_an_error(clusters):
    with pytest.raises(FloatingPointError, match="lr"):
        DTSNE(perplexity=15, max_iter=100, lr=1e30).fit(clusters[0])


@pytest.fixture(scope="module")
def views():
    X, a, b = two_view_clusters(150, generator=np.random.default_rng(0))
    return X, distance_matrix(X[:, :8]), a, b


def test_jedi_removes_the_prior(views):
    X, prior, a, _ = views
    options = {"perplexity": 15, "max_iter": 300, "early_exaggeration_iter": 100, "random_state": 0}
    plain = DTSNE(density=False, init="random", **options).fit_transform(X)
    ours = JEDI(beta=0.999, **options).fit_transform(X, prior=prior)
    left, before = (nos_area(nos_curve(distance_matrix(Y), a)) for Y in (ours, plain))
    assert left < 0.6 * before


def test_jedi_without_weight_is_tsne(views):
    X, prior, _, _ = views
    start = np.random.default_rng(2).standard_normal((len(X), 2))
    options = {"perplexity": 15, "max_iter": 10, "early_exaggeration_iter": 0, "init": start}
    plain = DTSNE(density=False, **options).fit_transform(X)
    np.testing.assert_allclose(JEDI(beta=1e-9, **options).fit_transform(X, prior=prior), plain, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda D: D[:-1, :-1], "prior is of 149 points, the data of 150"),
        (lambda D: np.triu(D), "prior is not symmetric"),
        (lambda D: -D, "prior has negative"),
        (lambda D: np.where(D == D.max(), np.nan, D), "NaN"),
    ],
)
def test_jedi_bad_prior(views, change, message):
    X, prior, _, _ = views
    with pytest.raises(ValueError, match=message):
        JEDI(perplexity=15).fit(X, prior=change(prior))


def test_jedi_takes_labels(views):
    X, _, a, _ = views
    prior = (a[:, None] != a).astype(float)
    assert np.isfinite(JEDI(perplexity=15, max_iter=20).fit_transform(X, prior=prior)).all()


def test_one_feature_has_no_start_of_principal_components():
    X = np.random.default_rng(0).standard_normal((60, 1))
    with pytest.raises(ValueError, match=r"X has 1 feature.*init='random'"):
        DTSNE(perplexity=10, max_iter=5).fit(X)
    assert DTSNE(perplexity=10, max_iter=5, init="random").fit_transform(X).shape == (60, 2)


def test_sparse_data_are_made_dense():
    X = sp.random_array((60, 20), density=0.3, rng=np.random.default_rng(0), format="csr")
    options = {"perplexity": 10, "max_iter": 5, "random_state": 0}
    np.testing.assert_array_equal(DTSNE(**options).fit_transform(X), DTSNE(**options).fit_transform(X.toarray()))
    assert Mercat(max_iter=3, random_state=0).fit_transform(X).shape == (60, 3)
    with pytest.raises(ValueError, match=r"X is sparse, of shape \(60000, 50000\).*TruncatedSVD"):
        DTSNE().fit(sp.csr_array((60_000, 50_000)))


def test_columns_have_names():
    X = np.random.default_rng(0).standard_normal((60, 4))
    model = DTSNE(perplexity=10, max_iter=5)
    model.fit(X)
    assert list(model.get_feature_names_out()) == ["dtsne0", "dtsne1"]
    assert model.n_features_in_ == 4
    pytest.importorskip("pandas")
    assert list(Mercat(max_iter=3).set_output(transform="pandas").fit_transform(X)) == ["mercat0", "mercat1", "mercat2"]


def test_a_prior_of_labels_is_that_of_their_distances(views):
    X, _, a, _ = views
    options = {"perplexity": 15, "max_iter": 5, "random_state": 0}
    by_labels = JEDI(**options).fit_transform(X, prior=a)
    np.testing.assert_array_equal(by_labels, JEDI(**options).fit_transform(X, prior=label_distances(a)))
    with pytest.raises(ValueError, match=r"prior has 149 labels, the data 150 points"):
        JEDI(**options).fit(X, prior=a[1:])
