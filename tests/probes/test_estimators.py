"""The estimators against their definitions, scikit-learn, and invariants."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC

from shared import probes
from shared.probes import _inputs

FILTERS = ["ridge", "lda", "logistic", "svm"]


def looped(peer, H, Y):
    fits = [peer().fit(H.numpy(), Y[:, k].numpy()) for k in range(Y.shape[1])]
    return np.stack([f.coef_.ravel() for f in fits]), np.array([np.ravel(f.intercept_)[0] for f in fits])


PEERS = {
    "ridge": (lambda: probes.RidgeProbe(alpha=3.0), lambda: Ridge(3.0), 1e-10),
    "lda": (probes.LDAProbe, lambda: LinearDiscriminantAnalysis(solver="lsqr"), 1e-9),
    "lda, shrunk": (
        lambda: probes.LDAProbe(shrinkage=0.3),
        lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3),
        1e-9,
    ),
    "logistic": (
        lambda: probes.LogisticProbe(C=0.5, tol=1e-10),
        lambda: LogisticRegression(C=0.5, solver="newton-cholesky", tol=1e-10),
        1e-6,
    ),
    "logistic, balanced": (
        lambda: probes.LogisticProbe(C=10, class_weight="balanced", tol=1e-10),
        lambda: LogisticRegression(C=10, class_weight="balanced", solver="newton-cholesky", tol=1e-10),
        1e-6,
    ),
    "svm": (
        lambda: probes.SVMProbe(C=0.1, tol=1e-10),
        lambda: LinearSVC(C=0.1, dual=False, tol=1e-10, max_iter=100_000),
        1e-6,
    ),
    "svm, balanced": (
        lambda: probes.SVMProbe(C=1.0, class_weight="balanced", tol=1e-10),
        lambda: LinearSVC(C=1.0, class_weight="balanced", dual=False, tol=1e-10, max_iter=100_000),
        1e-6,
    ),
    "lasso": (
        lambda: probes.LassoProbe(alpha=0.05, tol=1e-12),
        lambda: Lasso(0.05, tol=1e-12, max_iter=100_000),
        1e-5,
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_equals_scikit_learn(name, data):
    ours, peer, tolerance = PEERS[name]
    coef, intercept = looped(peer, *data)
    fitted = ours().fit(*data)
    scale = np.abs(coef).max()
    assert np.abs(fitted.coef_.numpy() - coef).max() < tolerance * scale
    assert np.abs(fitted.intercept_.numpy() - intercept).max() < tolerance * max(1, np.abs(intercept).max())


@pytest.mark.parametrize("name", ["ridge", "lda, shrunk", "logistic", "svm"])
def test_equals_scikit_learn_with_fewer_samples_than_dimensions(name, wide):
    ours, peer, tolerance = PEERS[name]
    coef, _ = looped(peer, *wide)
    assert np.abs(ours().fit(*wide).coef_.numpy() - coef).max() < 10 * tolerance * np.abs(coef).max()


def test_sums_of_means_from_their_definition(data):
    H, Y = data
    p = Y.double().mean(0)
    delta = torch.stack([H[Y[:, k] == 1].mean(0) - H[Y[:, k] == 0].mean(0) for k in range(5)])
    covariance = torch.stack([((H - H.mean(0)) * (Y[:, [k]] - p[k])).mean(0) / (p[k] * (1 - p[k])) for k in range(5)])
    medians = torch.stack(
        [torch.from_numpy(np.median(H[Y[:, k] == 1], 0) - np.median(H[Y[:, k] == 0], 0)) for k in range(5)]
    )
    assert torch.allclose(probes.MeanDifference().fit(H, Y).coef_, delta, atol=1e-12)
    assert torch.allclose(probes.PatternCAV().fit(H, Y).coef_, covariance, atol=1e-12)
    assert torch.allclose(probes.PatternCAV().fit(H, Y).coef_, delta, atol=1e-12)
    assert torch.allclose(probes.FastCAV().fit(H, Y).coef_, (1 - p)[:, None] * delta, atol=1e-12)
    assert torch.allclose(probes.MedianDifference().fit(H, Y).coef_, medians, atol=1e-12)


def test_ridge_goes_from_lda_to_pattern(data):
    H, Y = data
    n, p = len(H), Y.double().mean(0)[:, None]
    strong = probes.RidgeProbe(alpha=1e12).fit(H, Y).coef_ * 1e12
    pattern = probes.PatternCAV().fit(H, Y).coef_
    assert torch.allclose(strong, n * p * (1 - p) * pattern, rtol=1e-6)
    weak, lda = probes.RidgeProbe(alpha=0.0).fit(H, Y).coef_, probes.LDAProbe().fit(H, Y).coef_
    assert torch.allclose(probes.cosine(weak, lda).diagonal(), torch.ones(5).double(), atol=1e-12)


def test_a_shared_factor_changes_nothing(data):
    H, Y = data
    factor = probes.SharedFactor(H)
    for method in FILTERS[:3]:
        estimator = probes.PROBE_METHODS[method]()
        first = estimator.fit(H, Y).coef_
        assert torch.allclose(first, estimator.fit(H, Y, factor=factor).coef_, atol=1e-12)
    with pytest.raises(ValueError, match="factor"):
        probes.RidgeProbe().fit(H[:50], Y[:50], factor=factor)


@pytest.mark.parametrize("method", probes.PROBE_METHODS)
def test_all_at_once_equals_one_by_one(method, data):
    H, Y = data
    together = probes.PROBE_METHODS[method]().fit(H, Y)
    for k in range(Y.shape[1]):
        alone = probes.PROBE_METHODS[method]().fit(H, Y[:, k])
        assert torch.allclose(alone.coef_[0], together.coef_[k], atol=1e-5 * float(together.coef_.abs().max()))
        assert torch.equal(alone.predict(H), together.predict(H)[:, k])


@pytest.mark.parametrize("method", probes.PROBE_METHODS)
def test_flipped_labels_flip_the_direction(method, data):
    H, Y = data
    a, b = (probes.fit_direction(H, y, method=method) for y in (Y[:, 0], 1 - Y[:, 0]))
    assert torch.allclose(a.vector, -b.vector, atol=1e-4)


@pytest.mark.parametrize("method", ["mean", "pattern", "fastcav", *FILTERS])
def test_rotation_rotates_the_direction(method, data):
    H, Y = data
    Q = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(3)).double()).Q
    options = {"tol": 1e-10} if method in ("logistic", "svm") else {}
    plain = probes.PROBE_METHODS[method](**options).fit(H, Y).coef_
    turned = probes.PROBE_METHODS[method](**options).fit(H @ Q, Y).coef_
    assert torch.allclose(turned, plain @ Q, atol=1e-6 * float(plain.abs().max()))


def test_scaling_an_axis_leaves_lda_decisions(data):
    H, Y = data
    scaled = H * torch.linspace(0.1, 10, 12).double()
    a, b = (probes.LDAProbe().fit(X, Y).decision_function(X) for X in (H, scaled))
    assert torch.allclose(a, b, atol=1e-8)


def test_standardised_direction_is_mapped_back(data):
    H, Y = data
    scaled = H * torch.logspace(-2, 2, 12).double()
    a = probes.fit_direction(H, Y[:, 0], method="ridge", standardise=True)
    b = probes.fit_direction(scaled, Y[:, 0], method="ridge", standardise=True)
    assert torch.allclose(a.decision(H), b.decision(scaled), atol=1e-4)


def test_lasso_is_sparse_and_never_empty(data):
    H, Y = data
    weights = probes.LassoProbe(ratio=0.9).fit(H, Y).coef_
    assert (weights != 0).any(1).all()
    assert (weights == 0).double().mean() > 0.5


def test_is_a_scikit_learn_estimator(data):
    H, y = data[0].numpy(), data[1][:, 0].numpy()
    search = GridSearchCV(probes.LogisticProbe(), {"C": [0.01, 1.0]}, cv=3).fit(H, y)
    peer = GridSearchCV(LogisticRegression(max_iter=5000), {"C": [0.01, 1.0]}, cv=3).fit(H, y)
    assert search.cv_results_["mean_test_score"] == pytest.approx(peer.cv_results_["mean_test_score"])
    probe = clone(probes.LogisticProbe(C=2.0)).fit(H, y)
    assert isinstance(probe.predict(H), np.ndarray)
    assert probe.predict_proba(H) == pytest.approx(
        LogisticRegression(C=2.0, tol=1e-8, max_iter=5000).fit(H, y).predict_proba(H), abs=1e-4
    )


def test_a_direction_keeps_what_its_use_needs(data):
    maps = data[0].reshape(150, 3, 2, 2)
    d = probes.fit_direction(maps, data[1][:, 0], pool="max", channel_axis=1, layer="conv", name="striped")
    assert d.vector.norm() == pytest.approx(1)
    assert (d.layer, d.pool, d.name, sum(d.n)) == ("conv", "max", "striped", 150)
    assert torch.allclose(d.project(maps), maps.amax((2, 3)) @ d.vector.double(), atol=1e-6)
    assert d.gap == pytest.approx(d.scale, rel=1e-5)  # for a pattern the distance of the means


BAD = {
    "one class": (lambda H, Y: (H, torch.zeros(len(H))), ValueError, "concept 0 has 0 concept and 150 non-concept"),
    "one sample": (lambda H, Y: (H, (torch.arange(len(H)) == 0)), ValueError, "at least 2"),
    "constant": (lambda H, Y: (torch.ones_like(H), Y), probes.DegenerateDirectionError, "constant"),
    "nan": (lambda H, Y: (H.clone().index_fill_(0, torch.tensor([3]), torch.nan), Y), ValueError, "12 NaN"),
    "length": (lambda H, Y: (H, Y[:7]), ValueError, r"expected \(150,\)"),
    "values": (lambda H, Y: (H, Y * 2), ValueError, "other values than 0"),
    "maps": (lambda H, Y: (H.reshape(150, 3, 4), Y), ValueError, r"\(150, 3, 4\)"),
}


@pytest.mark.parametrize("method", probes.PROBE_METHODS)
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, method, data):
    change, error, message = BAD[case]
    with pytest.raises(error, match=message):
        probes.PROBE_METHODS[method]().fit(*change(*data))


def test_lda_without_enough_samples_says_shrinkage(wide):
    with pytest.raises(torch.linalg.LinAlgError, match="shrinkage"):
        probes.LDAProbe().fit(*wide)


def test_bad_use_of_a_fitted_probe(data):
    H, Y = data
    probe = probes.RidgeProbe().fit(H, Y)
    with pytest.raises(ValueError, match="fitted on 12"):
        probe.predict(H[:, :5])
    with pytest.raises(ValueError, match="did you mean 'pattern'"):
        probes.fit_direction(H, Y[:, 0], method="patern")
    with pytest.raises(ValueError, match="alpha"):
        probes.RidgeProbe(alpha=-1).fit(H, Y)
    with pytest.raises(ValueError, match="different layers"):
        probes.stack_directions([probes.fit_direction(H, Y[:, 0], layer=name) for name in "ab"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_double_keeps_values(dtype):
    X = (torch.arange(24).reshape(6, 4) % 5).to(dtype)
    for part in (X, X.T, X[:, 1]):
        assert _inputs.double(part).dtype == torch.float64
        assert torch.equal(_inputs.double(part), part.double())


def test_gram_and_centre_equal_the_formulas():
    X = torch.randn(50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3
    centred, mean = _inputs.centre(X)
    torch.testing.assert_close(mean, X.mean(0))
    torch.testing.assert_close(centred, X - X.mean(0))
    torch.testing.assert_close(_inputs.gram(X), X.T @ X)


@pytest.mark.parametrize("bad", [2, -1, 0.5])
def test_labels_other_than_0_and_1(bad):
    y = torch.tensor([0, 1, 0, 1]).to(torch.float64 if isinstance(bad, float) else torch.int64)
    y[0] = bad
    with pytest.raises(ValueError, match="other values than 0"):
        probes.RidgeProbe().fit(torch.rand(4, 2), y)
