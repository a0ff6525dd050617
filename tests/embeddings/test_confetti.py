"""CONFETTI: from its definition, a metric, its limits in lambda, bad input."""

import numpy as np
import pytest

from shared.embeddings import (
    DTSNE,
    affinities,
    confetti,
    distance_matrix,
    label_distances,
    nearest_neighbours,
    nos_curve,
)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return distance_matrix(rng.standard_normal((60, 5))), distance_matrix(rng.standard_normal((60, 2)))


def test_from_the_definition(pair):
    D, prior = pair
    got = confetti(D, prior, lam=0.7)
    for i in range(0, 60, 7):
        for j in range(60):
            expected = 0 if i == j else D[i, j] / D.max() - 0.35 * prior[i, j] / prior.max() + 0.7
            assert got[i, j] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("lam", [0.1, 1.0, 2.0, 10.0])
def test_it_is_a_metric(pair, lam, labels):
    D, prior = pair
    prior = label_distances(np.arange(60) % 3) if labels else prior
    M = confetti(D, prior, lam=lam)
    np.testing.assert_array_equal(M, M.T)
    assert (np.diagonal(M) == 0).all()
    assert M[~np.eye(60, dtype=bool)].min() > 0
    assert (M[:, None, :] + M.T[None, :, :] - M[:, :, None] >= -1e-12).all()  # all 216,000 triangles


def test_without_the_offset_it_is_none(pair):
    """Why lam is added: without it triangles break (so the test above can fail)."""
    D, prior = pair
    M = confetti(D, prior, lam=2.0) - 2.0
    np.fill_diagonal(M, 0)
    assert not (M[:, None, :] + M.T[None, :, :] - M[:, :, None] >= -1e-12).all()


def test_small_lambda_is_the_data(pair):
    D, prior = pair
    plain, _ = affinities(D, perplexity=10.0, metric="precomputed")
    ours, _ = affinities(confetti(D, prior, lam=1e-9), perplexity=10.0, metric="precomputed")
    np.testing.assert_allclose(ours, plain, atol=1e-6)


def test_order_of_points(pair):
    D, prior = pair
    order = np.random.default_rng(1).permutation(60)
    np.testing.assert_allclose(
        confetti(D[order][:, order], prior[order][:, order]), confetti(D, prior)[order][:, order]
    )


def test_a_shifted_prior_keeps_neighbourhoods(pair):
    """Adding a constant to the prior off the diagonal shifts all distances alike (at equal scale)."""
    D, prior = pair
    shifted = prior / prior.max() + 0.5 * (1 - np.eye(60))
    one, two = (
        confetti(D, prior, lam=1.0),
        confetti(D, shifted, lam=1.5),
    )  # 1.5: the shifted prior is scaled by its maximum
    np.testing.assert_array_equal(nearest_neighbours(one, 59), nearest_neighbours(two, 59))


def test_quantile_scale_forgives_outliers(pair):
    D, prior = pair
    prior[0, 1] = prior[1, 0] = 1e6
    assert confetti(D, prior).std() < confetti(D, prior, scale="q99").std()
    assert confetti(D, prior, scale="q99").min() >= 0


def test_constant_prior_warns(pair):
    D, _ = pair
    with pytest.warns(UserWarning, match="nothing to factor out"):
        np.testing.assert_allclose(confetti(D, 1 - np.eye(60)), D / D.max())


def test_any_embedding_takes_it(pair):
    D, prior = pair
    Y = DTSNE(density=False, metric="precomputed", perplexity=10, max_iter=10).fit_transform(confetti(D, prior))
    assert Y.shape == (60, 2)
    assert nos_curve(distance_matrix(Y), D).shape == (59,)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda Z: Z[:-1, :-1], {}, "prior is of 59 points, the data of 60"),
        (lambda Z: np.triu(Z), {}, "prior is not symmetric"),
        (lambda Z: -Z, {}, "prior has negative"),
        (lambda Z: np.where(Z == Z.max(), np.nan, Z), {}, "NaN"),
        (lambda Z: Z, {"lam": 0.0}, "lam=0.0"),
        (lambda Z: Z, {"lam": float("nan")}, "lam=nan"),
        (lambda Z: Z, {"scale": "mean"}, "scale='mean'"),
    ],
)
def test_bad_input(pair, change, options, message):
    with pytest.raises(ValueError, match=message):
        confetti(pair[0], change(pair[1]), **options)


def test_bad_labels():
    with pytest.raises(ValueError, match="labels has shape"):
        label_distances(np.zeros((3, 2)))
    np.testing.assert_array_equal(label_distances(np.array(["a", "b", "a"])), [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
