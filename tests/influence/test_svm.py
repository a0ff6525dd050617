"""The multi-class SVM: optimality conditions, scikit-learn's LIBLINEAR, both solvers, invariants, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from shared.influence import CrammerSingerSVM
from shared.influence._svm import fast, project_simplex
from tests.influence.nets import features

SOLVERS = ["gradient", pytest.param("sequential", marks=pytest.mark.skipif(fast is None, reason="needs numba"))]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("C", [1e-3, 0.1, 1.0])
def test_solution_is_optimal(solver, C):
    F, y = features(90)
    svm = CrammerSingerSVM(C=C, tol=1e-6, max_epochs=20_000, solver=solver).fit(F, y)
    own = torch.nn.functional.one_hot(y).bool()
    assert svm.alpha_.sum(1).abs().max() < 1e-10 * max(C, 1)
    assert (svm.alpha_[own] <= C + 1e-12).all()
    assert (svm.alpha_[~own] <= 1e-12).all()
    torch.testing.assert_close(svm.alpha_.T @ F, svm.coef_, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(svm.alpha_.sum(0), svm.intercept_, rtol=1e-9, atol=1e-10)
    assert 0 <= svm.duality_gap_ + 1e-12 < 1e-5
    # complementary slackness: a class with α_ic ≠ bound attains the largest violation of its row
    G = svm.decision_function(F) + (~own).double()
    used = torch.where(own, svm.alpha_ < C - 1e-9, svm.alpha_ < -1e-9)
    assert (G.max(1, keepdim=True).values - G)[used].max() < 2e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_primal_objective_is_that_of_a_generic_optimiser(solver):
    """The hinge is smoothed away by slack variables: a quadratic programme for SLSQP."""
    F, y = features(24, d=3)
    C, n, k = 0.2, 24, 3
    X = torch.cat([F, torch.ones(n, 1)], 1).numpy()
    own = np.eye(k)[y]

    def objective(v):
        return 0.5 * (v[: k * 4] ** 2).sum() + C * v[k * 4 :].sum()

    def slack(v):
        margins = X @ v[: k * 4].reshape(k, 4).T + 1 - own
        return (v[k * 4 :, None] - margins + (margins * own).sum(1, keepdims=True)).ravel()

    start = np.concatenate([np.zeros(k * 4), np.ones(n)])
    found = minimize(
        objective, start, constraints={"type": "ineq", "fun": slack}, options={"maxiter": 500, "ftol": 1e-12}
    )
    svm = CrammerSingerSVM(C=C, tol=1e-7, max_epochs=20_000, solver=solver).fit(F, y)
    margins = X @ np.c_[svm.coef_.numpy(), svm.intercept_.numpy()].T + 1 - own
    value = 0.5 * float(svm.coef_.square().sum() + svm.intercept_.square().sum())
    value += C * (margins.max(1) - (margins * own).sum(1)).sum()
    assert found.success
    assert value == pytest.approx(found.fun, rel=1e-6)


@pytest.mark.parametrize("C", [1e-2, 0.1, 1.0])
def test_agrees_with_liblinear(C):
    svm_module = pytest.importorskip("sklearn.svm")
    F, y = features(150, d=8, k=4)
    theirs = svm_module.LinearSVC(multi_class="crammer_singer", C=C, tol=1e-8, max_iter=500_000).fit(
        F.numpy(), y.numpy()
    )
    ours = CrammerSingerSVM(C=C, tol=1e-7, max_epochs=20_000).fit(F, y)
    scores = torch.from_numpy(theirs.decision_function(F.numpy()))
    assert (ours.decision_function(F) - scores).abs().max() < 1e-4 * scores.abs().max()


@pytest.mark.skipif(fast is None, reason="needs numba")
def test_solvers_agree():
    F, y = features(120, d=5, k=5, seed=3)
    a, b = (
        CrammerSingerSVM(C=0.3, tol=1e-7, max_epochs=50_000, solver=s).fit(F, y) for s in ("sequential", "gradient")
    )
    torch.testing.assert_close(a.coef_, b.coef_, rtol=1e-5, atol=1e-6)


def test_simplex_projection_by_bisection():
    D = torch.randn(50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low, high = D.min(1, keepdim=True).values - 2, D.max(1, keepdim=True).values
    for _ in range(80):
        middle = (low + high) / 2
        too_much = (D - middle).clamp(min=0).sum(1, keepdim=True) > 0.7
        low, high = torch.where(too_much, middle, low), torch.where(too_much, high, middle)
    torch.testing.assert_close(project_simplex(D, 0.7), (D - low).clamp(min=0), rtol=0, atol=1e-12)


def test_permuted_points_permute_alpha():
    """With more dimensions than points the dual solution is unique."""
    F, y = features(20, d=40)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    a = CrammerSingerSVM(C=1.0, tol=1e-8, max_epochs=50_000).fit(F, y)
    b = CrammerSingerSVM(C=1.0, tol=1e-8, max_epochs=50_000).fit(F[order], y[order])
    torch.testing.assert_close(a.alpha_[order], b.alpha_, rtol=0, atol=1e-6)


def test_scaling_features_is_scaling_c():
    F, y = features(60)
    a = CrammerSingerSVM(C=0.4, fit_intercept=False, tol=1e-7, max_epochs=20_000).fit(F, y)
    b = CrammerSingerSVM(C=0.1, fit_intercept=False, tol=1e-7, max_epochs=20_000).fit(2 * F, y)
    torch.testing.assert_close(a.decision_function(F), b.decision_function(2 * F), rtol=0, atol=1e-4)


def test_tiny_c_puts_every_point_at_its_bound():
    F, y = features(60)
    svm = CrammerSingerSVM(C=1e-9, tol=1e-6).fit(F, y)
    torch.testing.assert_close(svm.alpha_.gather(1, y[:, None]), torch.full((60, 1), 1e-9, dtype=torch.float64))


def test_large_c_is_sparse_when_classes_are_apart():
    F, y = features(300, d=20)
    F[torch.arange(300), y] += 6
    alpha = CrammerSingerSVM(C=10.0).fit(F, y).alpha_
    assert (alpha.abs() > 1e-10).any(1).double().mean() < 0.3


@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_and_columns_of_zeros_change_nothing(solver):
    F, y = features(60)
    options = {"fit_intercept": False, "tol": 1e-7, "max_epochs": 20_000, "solver": solver}
    plain = CrammerSingerSVM(C=0.2, **options).fit(F, y)
    wide = torch.cat([F, torch.zeros(60, 1)], 1)
    more = torch.cat([wide, torch.zeros(1, 7)]), torch.cat([y, torch.tensor([1])])
    svm = CrammerSingerSVM(C=0.2, **options).fit(*more)
    torch.testing.assert_close(svm.coef_[:, :-1], plain.coef_, rtol=0, atol=1e-5)
    assert (svm.alpha_[-1] == 0).all()
    assert (svm.coef_[:, -1] == 0).all()


def test_warns_when_epochs_do_not_suffice():
    with pytest.warns(RuntimeWarning, match="max_epochs"):
        CrammerSingerSVM(C=10.0, max_epochs=1, tol=1e-9).fit(*features(60))


def test_bad_input():
    F, y = features(30)
    broken = F.clone()
    broken[3, 2] = torch.nan
    for bad, labels, message in [
        (broken, y, "NaN"),
        (F, torch.zeros(30, dtype=torch.long), "one class"),
        (F, torch.where(y == 1, 2, y), r"no point of class \[1\]"),
        (F, y[:-1], r"y has shape \(29,\)"),
        (F, y.double(), "integer classes"),
        (torch.ones(30, 4), y, "constant"),
        (F[:, 0], y, "shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            CrammerSingerSVM().fit(bad, labels)
    with pytest.raises(ValueError, match=r"F has shape \(30, 5\)"):
        CrammerSingerSVM().fit(F, y).decision_function(F[:, :5])
    with pytest.raises(ValueError, match="C="):
        CrammerSingerSVM(C=0.0)
    with pytest.raises(ValueError, match="solver"):
        CrammerSingerSVM(solver="smo")
