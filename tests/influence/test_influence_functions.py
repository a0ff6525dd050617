"""Influence functions: curvature by its definition, retraining, solvers against each other."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from shared.influence import DivergenceError, InfluenceFunctions, TrainedClassifier, per_sample_gradients
from shared.influence._curvature import FullCurvature, HeadCurvature
from shared.influence._outputs import OUTPUTS, explained
from tests.influence.nets import conv_net, features, fit_head, linear_net


def correlation(a, b):
    return float(np.corrcoef(a.flatten(), b.flatten())[0, 1])


def jacobian_ggn(net):
    """The definition, from full Jacobians."""
    names, values = zip(*net.model.named_parameters())
    G = 0
    for one in net.x:

        def run(*p, one=one):
            return torch.func.functional_call(net.model, dict(zip(names, p)), one[None])[0]

        J = torch.cat([j.flatten(1) for j in torch.autograd.functional.jacobian(run, values)], 1)
        p = net.model(one[None])[0].softmax(0).detach()
        G = G + J.T @ (p.diag() - p[:, None] * p) @ J
    return G / len(net)


def test_curvature_by_definition(linear):
    small = conv_net(n=9)
    torch.testing.assert_close(FullCurvature(small).dense(), jacobian_ggn(small), rtol=1e-8, atol=1e-10)
    head = HeadCurvature(linear)
    V = torch.randn(4, head.size, dtype=torch.float64)
    torch.testing.assert_close(head.matvec(V), V @ head.dense().T)
    W = jacobian_ggn(linear)
    order = torch.cat([torch.arange(18).view(3, 6), torch.arange(18, 21)[:, None]], 1).flatten()  # weights, then biases
    torch.testing.assert_close(head.dense(), W[order][:, order])
    rows = torch.tensor([3, 3, 5])
    torch.testing.assert_close(head.matvec(V, rows), HeadCurvature(linear.on(linear.x[rows], linear.y[rows])).matvec(V))


def test_full_train_dot(conv):
    curvature = FullCurvature(conv)
    V = torch.randn(3, curvature.size, dtype=torch.float64)
    torch.testing.assert_close(curvature.train_dot(V), V @ curvature.train().T)


@pytest.mark.parametrize("output", OUTPUTS)
def test_influence_is_the_derivative_of_retraining(output):
    """d output / d weight of a training point, by retraining with its weight moved by ±1e-3."""
    l2, F, y = 1e-2, *features(45)
    net = linear_net(F, y, l2)
    tests, targets = features(5, seed=0)[0], torch.tensor([0, 1, 2, 0, 1])
    tau = InfluenceFunctions(solver="exact", damping=l2, output=output).fit(net).attribute(tests, targets)
    for i in (0, 7, 20):
        ends = []
        for step in (1e-3, -1e-3):
            head, weights = copy.deepcopy(net.model), torch.ones(45, dtype=F.dtype)
            weights[i] += step
            fit_head(head, F, y, weights, l2)
            ends.append(explained(head(tests).detach(), targets, output))
        slope = (ends[0] - ends[1]) / 2e-3 * 45  # the loss is a mean
        torch.testing.assert_close(tau[:, i], slope, rtol=1e-3, atol=1e-4 * float(tau.abs().max()))


def test_influence_predicts_leaving_a_point_out():
    l2, F, y = 0.1, *features(60, seed=2)
    net = linear_net(F, y, l2)
    tests, targets = F[:6] * 0.9, y[:6]
    tau = InfluenceFunctions(solver="exact", damping=l2).fit(net).attribute(tests, targets)
    whole, changes = explained(net.logits(tests), targets, "margin"), []
    for i in range(60):
        head, weights = copy.deepcopy(net.model), torch.ones(60, dtype=F.dtype)
        weights[i] = 0
        fit_head(head, F, y, weights, l2)
        changes.append(whole - explained(head(tests).detach(), targets, "margin"))
    assert correlation(tau, torch.stack(changes, 1)) > 0.99


def test_solvers_agree_with_the_exact_one(conv, linear):
    for net, layers in ((linear, "head"), (conv, "head"), (conv, "all")):
        exact = InfluenceFunctions(solver="exact", layers=layers, damping=1e-2).fit(net)
        tau = exact.attribute(net.x[:4])
        scale = float(tau.abs().max())
        cg = InfluenceFunctions(solver="cg", layers=layers, damping=1e-2, tol=1e-9, max_iterations=500).fit(net)
        torch.testing.assert_close(cg.attribute(net.x[:4]), tau, rtol=0, atol=1e-6 * scale)
        assert cg.residual_ < 1e-9
        torch.testing.assert_close(cg.self_influence(), exact.self_influence(), rtol=1e-5, atol=1e-6)
        lissa = InfluenceFunctions(solver="lissa", layers=layers, damping=1e-2, depth=1500, points_per_step=10**6).fit(
            net
        )
        assert correlation(lissa.attribute(net.x[:4]), tau) > 0.98
        size = exact.curvature.size
        arnoldi = InfluenceFunctions(solver="arnoldi", layers=layers, damping=1e-2, steps=size, rank=size).fit(net)
        torch.testing.assert_close(arnoldi.attribute(net.x[:4]), tau, rtol=0, atol=2e-2 * scale)


def test_self_influence_is_the_diagonal_for_the_log_probability(linear):
    for solver in ("exact", "cg", "arnoldi"):
        method = InfluenceFunctions(solver=solver, output="logp", damping=1e-2, tol=1e-9, max_iterations=500).fit(
            linear
        )
        tau = method.attribute(linear.x, linear.y)
        torch.testing.assert_close(method.self_influence(), tau.diagonal(), rtol=1e-5, atol=1e-7)


def test_lissa_says_when_it_diverges(linear):
    with pytest.raises(DivergenceError, match="scale"):
        InfluenceFunctions(solver="lissa", scale=0.01, depth=300).fit(linear).attribute(linear.x[:2])


def test_exact_refuses_many_parameters(conv, monkeypatch):
    monkeypatch.setattr("shared.influence._influence_functions._DENSE", 10)
    with pytest.raises(ValueError, match="up to 10 parameters"):
        InfluenceFunctions(solver="exact").fit(conv)


def test_frozen_weights_count_in_no_gradient(conv):
    """A network whose first layer is frozen has the gradients of the other parameters, and no others."""
    model = copy.deepcopy(conv.model)
    model.body[0].requires_grad_(False)
    frozen = TrainedClassifier(model, conv.x, conv.y, head="head")
    trainable = [p.numel() for p in model.parameters() if p.requires_grad]
    whole = per_sample_gradients(conv, conv.x[:5], conv.y[:5])
    found = per_sample_gradients(frozen, conv.x[:5], conv.y[:5])
    assert found.shape[1] == sum(trainable) < whole.shape[1]
    torch.testing.assert_close(found, whole[:, -sum(trainable) :])
    curvature = FullCurvature(frozen)
    size = FullCurvature(conv).size
    V = torch.randn(2, curvature.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    padded = torch.cat([V.new_zeros(2, size - curvature.size), V], 1)
    torch.testing.assert_close(curvature.matvec(V), FullCurvature(conv).matvec(padded)[:, -curvature.size :])


def test_ekfac_is_the_curvatures_diagonal_in_the_kronecker_basis(linear):
    """diag((U ⊗ V)ᵀ G (U ⊗ V)) of the dense G, U and V from the factors' own definition."""
    curvature = HeadCurvature(linear)
    method = InfluenceFunctions(solver="ekfac").fit(linear)
    S = torch.stack([p.diag() - p[:, None] * p for p in curvature.p]).mean(0)
    A = torch.stack([f[:, None] * f for f in curvature.F]).mean(0)
    U, V = (torch.linalg.eigh(M)[1] for M in (S, A))
    Q = torch.kron(U.contiguous(), V.contiguous())
    torch.testing.assert_close(method._basis.values.flatten(), (Q.T @ curvature.dense() @ Q).diagonal())


def test_ekfac_is_exact_where_the_factors_are_independent(linear):
    """With zero weights all probabilities are equal, so that G is one Kronecker product."""
    net = copy.deepcopy(linear)
    torch.nn.init.zeros_(net.layer.weight)
    torch.nn.init.zeros_(net.layer.bias)
    exact, ekfac = (InfluenceFunctions(solver=s, damping=1e-2).fit(net) for s in ("exact", "ekfac"))
    torch.testing.assert_close(ekfac.attribute(net.x[:4]), exact.attribute(net.x[:4]))
    torch.testing.assert_close(ekfac.self_influence(), exact.self_influence())
    with pytest.raises(ValueError, match="layers='head'"):
        InfluenceFunctions(solver="ekfac", layers="all")


def test_ekfac_is_a_better_curvature_than_kfac(linear):
    """In the Frobenius norm, which it minimises among all that share the eigenvectors (George et al. 2018)."""
    curvature, basis = HeadCurvature(linear), InfluenceFunctions(solver="ekfac").fit(linear)._basis
    G, Q = curvature.dense(), torch.kron(basis.U.contiguous(), basis.V.contiguous())
    S = curvature.p.mean(0).diag() - curvature.p.T @ curvature.p / len(linear)
    kfac = torch.kron(S.contiguous(), curvature.F.T @ curvature.F / len(linear))
    ekfac = Q @ basis.values.flatten().diag() @ Q.T
    assert (ekfac - G).norm() < 0.9 * (kfac - G).norm()
