"""Prototypes of classes: the mixture's formulas, exemplars, stability, sparseness, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from shared.concepts import ClassPrototypes, gini, prototype_stability

RNG = np.random.default_rng(0)
CENTRES = np.array([[4.0, 0, 0], [0, 4, 0], [0, 0, 4], [-4, 0, 0]])
PART = np.repeat(np.arange(4), 50)
X, Y = CENTRES[PART] + RNG.normal(size=(200, 3)), np.repeat([3, 7], 100)


def fitted(**options):
    return ClassPrototypes(**{"n_prototypes": 2, "reg_covar": 1e-6, **options}).fit(X, Y)


def test_the_likelihood_is_the_sum_of_weighted_gaussians():
    prototypes = fitted()
    for k in (3, 7):
        m = prototypes.mixtures_[k]
        parts = [w * multivariate_normal(c, s).pdf(X) for w, c, s in zip(m.weights_, m.means_, m.covariances_)]
        assert np.allclose(prototypes.log_likelihood(X, np.full(200, k)), np.log(np.sum(parts, 0)), atol=1e-6)
        assert np.isclose(m.weights_.sum(), 1)
        assert (prototypes.assign(X, np.full(200, k)) == np.argmax(parts, 0)).all()


def test_one_prototype_is_mean_and_covariance():
    prototypes = fitted(n_prototypes=1, reg_covar=0.0)
    mine = X[Y == 3]
    assert np.allclose(prototypes.mixtures_[3].means_[0], mine.mean(0))
    assert np.allclose(prototypes.mixtures_[3].covariances_[0], np.cov(mine.T, bias=True))


def test_sub_populations_become_prototypes():
    prototypes = fitted()
    found = prototypes.assign(X, Y)
    for k in (3, 7):
        parts = PART[Y == k] - PART[Y == k].min()
        agree = (found[Y == k] == parts).mean()
        assert max(agree, 1 - agree) > 0.97
    nearest = np.stack([prototypes.mixtures_[k].means_[i] for k, i in zip(Y, found)])
    assert np.allclose(prototypes.delta(X, Y), X - nearest)
    shown = prototypes.exemplars(3, n=4)
    assert shown.shape == (2, 4)
    distance = np.linalg.norm(X[shown] - prototypes.mixtures_[3].means_[:, None], axis=2)
    assert (np.diff(distance) >= 0).all()
    assert np.allclose(
        distance[:, 0], [np.linalg.norm(X[Y == 3] - m, axis=1).min() for m in prototypes.mixtures_[3].means_]
    )
    assert np.allclose(prototypes.distance(X[shown[0]], Y[shown[0]]), distance[0])


def test_percentiles_are_of_the_own_class():
    prototypes = fitted()
    own = prototypes.percentile(X, Y)
    for k in (3, 7):
        assert np.allclose(np.sort(own[Y == k]), np.arange(1, 101) / 100)
    strange = prototypes.percentile(X, np.where(Y == 3, 7, 3))
    assert strange.max() < 0.1


def test_an_outcome_does_not_depend_on_units_of_labels_or_order_of_rows():
    turned = RNG.permutation(200)
    a, b = fitted(n_init=3), ClassPrototypes(n_prototypes=2, reg_covar=1e-6, n_init=3).fit(X[turned], Y[turned])
    assert np.allclose(a.log_likelihood(X, Y), b.log_likelihood(X, Y), atol=1e-2)


def test_stable_prototypes_and_those_of_noise():
    options = {"n_prototypes": 2, "reg_covar": 1e-3}
    sure = prototype_stability(X, Y, generator=np.random.default_rng(1), **options)
    noise = prototype_stability(RNG.normal(size=(200, 3)), Y, generator=np.random.default_rng(1), **options)
    assert sure.shape == (2,)
    assert sure.min() > 0.98 > 0.9 > noise.max()


def test_gini_of_known_vectors():
    assert np.allclose(gini([[1, 1, 1, 1], [0, 0, -5, 0], [0, 0, 0, 0]]), [0, 0.75, 0])
    x = np.abs(RNG.normal(size=(1, 6)))
    pairs = np.abs(x[0][:, None] - x[0][None]).sum() / (2 * 6**2 * x.mean())
    assert np.isclose(gini(x)[0], pairs)
    for bad in (np.ones(3), [[np.nan, 1.0]], np.ones((0, 2))):
        with pytest.raises(ValueError, match="vectors"):
            gini(bad)


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({"n_prototypes": 101}, {}, "y has 100 samples of class 3, fewer than the 101 that n_prototypes=101"),
        ({"n_prototypes": 1}, {"y": np.r_[9, Y[1:]]}, "y has 1 samples of class 9"),
        ({"n_prototypes": 0}, {}, "n_prototypes"),
        ({"covariance": "round"}, {}, "covariance"),
        ({}, {"X": np.where(np.arange(600).reshape(200, 3) == 7, np.nan, X)}, "X has 1 NaN"),
        ({}, {"X": X[:, 0]}, "X has shape"),
        ({}, {"y": Y[:-1]}, "y has shape"),
    ],
)
def test_what_is_refused(options, change, message):
    given = {"X": X, "y": Y, **change}
    with pytest.raises(ValueError, match=message):
        ClassPrototypes(**{"n_prototypes": 2, **options}).fit(given["X"], given["y"])


def test_unknown_classes_and_other_widths_are_refused_later_too():
    prototypes = fitted()
    for call in (prototypes.log_likelihood, prototypes.assign, prototypes.delta, prototypes.percentile):
        with pytest.raises(ValueError, match="y holds classes that were not fitted: \\[4\\]"):
            call(X[:2], [3, 4])
        with pytest.raises(ValueError, match="X has shape"):
            call(X[:2, :2], [3, 3])
    with pytest.raises(ValueError, match="target"):
        prototypes.exemplars(4)
    with pytest.raises(ValueError, match="n=101"):
        prototypes.exemplars(3, n=101)


def test_a_second_fit_may_have_another_width():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    fitted = ClassPrototypes(n_prototypes=2).fit(rng.normal(size=(40, 4)), y).fit(rng.normal(size=(40, 3)), y)
    assert fitted.n_features_in_ == 3
    with pytest.raises(ValueError, match="X has shape"):
        fitted.assign(rng.normal(size=(5, 4)), y[:5])
