"""Other metrics, the spectral start, and new points in a map that stays as it is."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist, squareform

from shared.embeddings import DTSNE, Mercat, affinities, distance_matrix, neighbour_affinities
from shared.embeddings._distances import METRICS
from shared.embeddings._placing import _loss_and_slope, _placed

SCIPY = {"manhattan": "cityblock"}
RNG = np.random.default_rng(0)
CENTRES = 6 * np.eye(4, 8)
LABELS = np.repeat(np.arange(4), 30)
X = CENTRES[LABELS] + RNG.normal(size=(120, 8))
FAST = {"perplexity": 10.0, "max_iter": 150, "early_exaggeration_iter": 50, "random_state": 0}


@pytest.mark.parametrize("metric", [m for m in METRICS if m != "precomputed"])
def test_a_metric_is_the_matrix_of_its_distances(metric):
    data = np.round(X) if metric == "hamming" else X
    D = squareform(pdist(data, SCIPY.get(metric, metric)))
    for one, other in zip(
        affinities(data, perplexity=10.0, metric=metric), affinities(D, perplexity=10.0, metric="precomputed")
    ):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_neighbours_under_a_metric_are_those_of_all_pairs():
    P, sigma = neighbour_affinities(X, perplexity=10.0, metric="cosine")
    D = cdist(X, X, "cosine")
    np.fill_diagonal(D, np.inf)
    assert set(P[0].indices) >= set(np.argsort(D[0])[:30])
    whole = affinities(X, perplexity=10.0, metric="cosine")[1].numpy()
    np.testing.assert_allclose(sigma, whole, rtol=0.2)


@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_a_cosine_map_is_blind_to_lengths(method):
    lengths = np.random.default_rng(1).uniform(0.5, 2.0, size=(120, 1))
    P, other = (affinities(x, perplexity=10.0, metric="cosine")[0] for x in (X, lengths * X))
    torch.testing.assert_close(P, other, rtol=1e-6, atol=1e-9)
    found = DTSNE(metric="cosine", method=method, **FAST).fit(X).embedding_
    assert found.shape == (120, 2)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("metric", "row", "name"),
    [("cosine", 0.0, "row of zeros"), ("correlation", 2.0, "constant row"), ("mahalanobis", 1.0, "metric")],
)
def test_rows_that_a_metric_has_no_value_for_are_named(metric, row, name):
    bad = X.copy()
    bad[3] = row
    for estimator in (DTSNE(metric=metric), Mercat(metric=metric)):
        with pytest.raises(ValueError, match=name):
            estimator.fit(bad)


@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_the_spectral_start_are_the_graphs_slowest_modes(method):
    t = np.sort(np.random.default_rng(2).uniform(0, 3, 150))
    sheet = np.c_[t * np.cos(4 * t), t * np.sin(4 * t), np.zeros(150)]  # a spiral: one slow mode, along it
    model = DTSNE(init="spectral", method=method, **FAST)
    start = model.set_params(max_iter=1, early_exaggeration_iter=0, lr=1e-9).fit(sheet).embedding_
    order = np.corrcoef(np.argsort(np.argsort(start[:, 0])), np.arange(150))[0, 1]
    assert abs(order) > 0.99
    assert start[:, 0].std() == pytest.approx(1e-3, rel=0.01)


@pytest.fixture(scope="module", params=[(True, "exact"), (False, "exact"), (True, "approximate")], ids=str)
def fitted(request):
    density, method = request.param
    return DTSNE(density=density, method=method, **FAST).fit(X)


def test_new_points_land_in_their_cluster(fitted):
    new = CENTRES[[0, 1, 2, 3, 0]] + np.random.default_rng(3).normal(size=(5, 8))
    places = fitted.transform(new)
    centres = np.stack([fitted.embedding_[LABELS == c].mean(0) for c in range(4)])
    assert cdist(places, centres).argmin(1).tolist() == [0, 1, 2, 3, 0]


def test_rows_of_the_fit_keep_their_places_and_the_others_play_no_part(fitted):
    new = X[:7] + 0.3
    both = fitted.transform(np.r_[X[:5], new])
    np.testing.assert_array_equal(both[:5], fitted.embedding_[:5])
    np.testing.assert_allclose(both[5:], fitted.transform(new), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(fitted.transform(X), fitted.embedding_)


def test_near_copies_land_near_their_originals(fitted):
    spread = fitted.embedding_.std()
    off = np.linalg.norm(fitted.transform(X + 1e-3) - fitted.embedding_, axis=1)
    assert np.median(off) < 0.5 * spread


def test_distances_to_the_fit_place_as_the_data_do():
    D = distance_matrix(X)
    new = X[:6] + 0.2
    one = DTSNE(**FAST).fit(X)
    other = DTSNE(metric="precomputed", **FAST).fit(D)
    other.embedding_ = one.embedding_
    np.testing.assert_allclose(other.transform(cdist(new, X)), one.transform(new), rtol=1e-3, atol=1e-3)


def test_a_place_is_where_its_loss_is_least():
    Y = torch.as_tensor(RNG.normal(size=(40, 2)))
    squared = torch.as_tensor(RNG.uniform(1, 9, size=(3, 40)))
    sigma = torch.as_tensor(RNG.uniform(0.5, 1, size=40))
    y = torch.as_tensor(RNG.normal(size=(3, 2)), dtype=torch.float64).requires_grad_()
    P, gamma = torch.softmax(-squared, 1), torch.rand(3, 40, dtype=torch.float64)
    loss, slope = _loss_and_slope(y, Y, P, gamma)
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), y)[0], slope.detach())
    q = 1 / (1 + gamma * (y.detach()[:, None] - Y).square().sum(-1))
    torch.testing.assert_close(loss.detach(), -(P * torch.log(q / q.sum(1, keepdim=True))).sum(1))
    start = _placed(squared, Y, sigma, 5.0, 1)
    assert torch.isfinite(start).all()


@pytest.mark.parametrize(
    ("change", "name"),
    [(lambda x: x[:, :3], "X has 3 columns"), (lambda x: x * np.nan, "X has"), (lambda x: x[:0], "X is empty|X has 0")],
)
def test_new_points_that_don_t_fit_are_named(fitted, change, name):
    with pytest.raises(ValueError, match=name):
        fitted.transform(change(X[:4]))


def test_before_the_fit_there_is_no_place():
    with pytest.raises(Exception, match="not fitted"):
        DTSNE().transform(X)


def test_mercat_of_distances_is_mercat_of_the_data():
    options = {"max_iter": 60, "random_state": 0, "rank": 4}
    one = Mercat(**options).fit(X)
    other = Mercat(metric="precomputed", **options).fit(distance_matrix(X))
    assert other.rank_ == one.rank_
    assert other.loss_ == pytest.approx(one.loss_, rel=0.05)


def test_mercat_refuses_distances_that_are_none():
    with pytest.raises(ValueError, match="X is not symmetric"):
        Mercat(metric="precomputed").fit(np.triu(distance_matrix(X)))
    with pytest.raises(ValueError, match="all points of X are equal"):
        Mercat(metric="precomputed").fit(np.zeros((9, 9)))
