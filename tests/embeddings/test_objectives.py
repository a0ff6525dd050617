"""Objectives: closed form against autograd, scikit-learn and openTSNE; the approximation against all pairs."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.spatial.distance import squareform

from shared.embeddings import (
    SparseKL,
    affinities,
    density_scale,
    distance_matrix,
    jedi_objective,
    js_divergence,
    kl_gradient,
    kl_objective,
    label_distances,
    neighbour_affinities,
    pair_kernel,
    prior_affinities,
)
from shared.embeddings import _leaves as leaves

N = 60


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, 6)) * rng.uniform(0.5, 3, (N, 1))
    P, sigma = affinities(X, perplexity=8.0, symmetrise="sigma")
    prior, _ = affinities(rng.standard_normal((N, 2)), perplexity=8.0)
    Y = torch.as_tensor(3 * rng.standard_normal((N, 2)))
    return Y, P, density_scale(sigma), prior


def autograd(objective, Y):
    Y = Y.clone().requires_grad_()
    value = objective(Y)
    (gradient,) = torch.autograd.grad(value, Y)
    return value.item(), gradient


def slow_q(Y, gamma):
    squared = (Y[:, None] - Y[None]).square().sum(-1)
    W = (1 - torch.eye(len(Y), dtype=Y.dtype)) / (1 + gamma * squared)
    return W / W.sum()


def slow_kl(P, Q):
    off = P > 0
    return (P[off] * (P[off] / Q[off]).log()).sum()


@pytest.mark.parametrize("density", [False, True])
def test_kl_equals_autograd(case, density):
    Y, P, gamma, _ = case
    scale = gamma if density else torch.ones_like(gamma)
    value, gradient = autograd(lambda Y: slow_kl(P, slow_q(Y, scale)), Y)
    loss, closed = kl_objective(Y, P, gamma=gamma if density else None)
    assert loss.item() == pytest.approx(value, rel=1e-10)
    torch.testing.assert_close(closed, gradient, atol=1e-12, rtol=1e-8)
    torch.testing.assert_close(kl_gradient(Y, P, gamma=gamma if density else None), gradient, atol=1e-12, rtol=1e-8)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (1.0, 0.9), (0.0, 0.9), (0.3, 0.999)])
def test_jedi_equals_autograd(case, alpha, beta):
    Y, P, _, prior = case

    def objective(Y):
        Q = slow_q(Y, torch.ones_like(P))
        off = ~torch.eye(len(Y), dtype=torch.bool)
        Q, p, r = Q[off], P[off], prior[off]
        js = alpha * (r * (r / (beta * Q + (1 - beta) * r)).log()).sum()
        js = js + (1 - alpha) * (Q * (Q / (beta * r + (1 - beta) * Q)).log()).sum()
        return (p * (p / Q).log()).sum() - js

    value, gradient = autograd(objective, Y)
    loss, closed = jedi_objective(Y, P, prior, alpha, beta)
    assert loss.item() == pytest.approx(value, rel=1e-9)
    torch.testing.assert_close(closed, gradient, atol=1e-10, rtol=1e-7)


def test_jedi_gradient_pushes_away_from_the_prior(case):
    """A step down JEDI's gradient beyond KL's own must raise the divergence from the prior (a sign is easily lost)."""
    Y, P, _, prior = case
    away = jedi_objective(Y, P, prior, 0.5, 0.9)[1] - kl_objective(Y, P)[1]

    def divergence(Y):
        W = pair_kernel(Y)
        return js_divergence(prior, W / W.sum(), 0.5, 0.9).item()

    assert divergence(Y - 1e-2 * away / away.norm()) > divergence(Y)


def test_equals_scikit_learn(case):
    from sklearn.manifold._t_sne import _kl_divergence

    Y, P, _, _ = case
    theirs, gradient = _kl_divergence(Y.numpy().ravel(), squareform(P.numpy()), 1, N, 2)
    loss, ours = kl_objective(Y, P)
    assert loss.item() == pytest.approx(theirs, rel=1e-9)
    np.testing.assert_allclose(ours.numpy().ravel(), gradient, atol=1e-12)


def test_equals_opentsne(case):
    tsne = pytest.importorskip("openTSNE.tsne")
    Y, P, _, _ = case
    theirs, gradient = tsne.kl_divergence_bh(
        Y.numpy().copy(), sp.csr_matrix(P.numpy()), 1.0, {"theta": 0.0}, should_eval_error=True
    )
    loss, ours = kl_objective(Y, P)
    assert loss.item() == pytest.approx(theirs, rel=1e-6)
    np.testing.assert_allclose(ours.numpy(), 4 * gradient, atol=1e-8)  # it leaves out the factor 4


@pytest.mark.parametrize("density", [False, True])
def test_objective_ignores_rotation_and_translation(case, density):
    Y, P, gamma, prior = case
    turn = torch.linalg.qr(torch.as_tensor(np.random.default_rng(2).standard_normal((2, 2))))[0]
    moved = Y @ turn + 5
    gamma = gamma if density else None
    for objective in (lambda Y: kl_objective(Y, P, gamma=gamma), lambda Y: jedi_objective(Y, P, prior, 0.5, 0.9)):
        (loss, gradient), (loss_moved, gradient_moved) = objective(Y), objective(moved)
        assert loss.item() == pytest.approx(loss_moved.item(), rel=1e-9)
        torch.testing.assert_close(gradient @ turn, gradient_moved, atol=1e-10, rtol=1e-6)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_js_divergence_is_bounded(alpha, beta):
    rng = np.random.default_rng(3)
    for sharpness in (0.1, 1.0, 10.0):
        prior, Q = torch.as_tensor(rng.dirichlet(np.full(50, 1 / sharpness), 2))
        assert -1e-12 <= js_divergence(prior, Q, alpha, beta).item() <= -np.log(1 - beta) + 1e-12
        assert js_divergence(Q, Q, alpha, beta).item() == pytest.approx(0, abs=1e-12)
    apart = torch.eye(2, dtype=torch.float64)
    assert js_divergence(apart[0], apart[1], alpha, beta).item() == pytest.approx(-np.log(1 - beta))


@pytest.mark.parametrize(("alpha", "beta"), [(-0.1, 0.5), (1.1, 0.5), (0.5, 0.0), (0.5, 1.0), (0.5, float("nan"))])
def test_bad_weights(alpha, beta):
    with pytest.raises(ValueError, match=r"alpha|beta"):
        js_divergence(torch.ones(2) / 2, torch.ones(2) / 2, alpha, beta)


def far_apart(n, density, seed=0):
    """A map with clusters of different density, its bandwidths, and the exact push and Z over all pairs."""
    rng = np.random.default_rng(seed)
    label = rng.integers(5, size=n)
    spread = np.array([1.0, 2.0, 4.0, 8.0, 12.0])[label]
    Y = rng.uniform(-60, 60, (5, 2))[label] + spread[:, None] * rng.standard_normal((n, 2))
    sigma = spread * rng.uniform(0.8, 1.2, n) if density else np.ones(n)
    s, Y = torch.as_tensor(sigma), torch.as_tensor(Y)
    scale = float(np.partition(sigma, 1)[:2].sum() ** 2)
    gamma = scale / (s[:, None] + s).square()
    W = pair_kernel(Y, gamma=gamma)
    A = W * W * gamma
    return Y.float(), s.float(), scale, A.sum(1, keepdim=True) * Y - A @ Y, W.sum()


compiled = pytest.mark.skipif(leaves.fast is None, reason="numba is not installed")


@pytest.mark.parametrize(
    ("kernels", "theta", "tolerance"),
    [
        pytest.param("compiled", 0.0, 1e-5, marks=compiled),
        pytest.param("compiled", 0.25, 1e-3, marks=compiled),
        pytest.param("compiled", 0.5, 0.02, marks=compiled),
        ("torch", 0.0, 1e-4),
        ("torch", 0.25, 0.01),
        ("torch", 0.5, 0.05),
    ],
)
@pytest.mark.parametrize("density", [False, True])
@pytest.mark.parametrize("n", [37, 1500])
def test_repulsion_of_groups(monkeypatch, kernels, density, n, theta, tolerance):
    if kernels == "torch":
        monkeypatch.setattr(leaves, "fast", None)
    Y, sigma, scale, push, Z = far_apart(n, density)
    got, mass = leaves.repulsion(Y, sigma, scale, theta)
    assert (got - push).norm() <= tolerance * push.norm()
    assert mass.item() == pytest.approx(Z.item(), rel=max(tolerance, 1e-4))


@compiled
def test_a_far_group_acts_by_its_second_order_expansion():
    """Sums over a far group are M (f + ½ Σ C_kl ∂_k ∂_l f) at its centroid, f and its derivatives by autograd."""
    rng = np.random.default_rng(6)
    here, there = rng.uniform(0, 1, (64, 3)), rng.uniform([3, 0.5, 0], [4, 1.5, 1], (64, 3))  # x, y, σ
    scale, f = 2.0, lambda v: v[2] ** 2 / (scale * (v[0] ** 2 + v[1] ** 2) + v[2] ** 2)
    points, group = torch.as_tensor(here), torch.as_tensor(there)
    flip = torch.tensor([1.0, 1.0, -1.0])  # x and y are subtracted, σ added
    centre = group.mean(0)
    C = (group - centre).T @ (group - centre) / len(group) * flip[:, None] * flip

    def lumped(v):
        return len(group) * (f(v) + 0.5 * (C * torch.func.hessian(f)(v)).sum())

    single = torch.func.vmap(f)((points[:, None] - points * flip).view(-1, 3)).view(64, 64)
    far = torch.func.vmap(lumped)(points - centre * flip)
    far_push = -0.5 * torch.func.vmap(torch.func.grad(lumped))(points - centre * flip)[:, :2]
    near_push = -0.5 * torch.func.vmap(torch.func.grad(f))((points[:, None] - points * flip).view(-1, 3))
    near_push = near_push.view(64, 64, 3).sum(1)[:, :2]

    root, both = np.sqrt(scale), np.concatenate([here, there]).astype(np.float32)
    arrays = both[:, 0] * np.float32(root), both[:, 1] * np.float32(root), both[:, 2].copy()
    nodes = leaves.fast.summarise(*arrays, 1)
    push, mass = leaves.fast.repulsion(*arrays, nodes, 1, np.float32(0.5))  # each leaf is far for the other only
    np.testing.assert_allclose(mass[:64], (single.sum(1) + far).numpy(), rtol=1e-5)
    np.testing.assert_allclose(push[:64] * root, (near_push + far_push).numpy(), atol=1e-4)
    exact = torch.func.vmap(f)((points[:, None] - group * flip).view(-1, 3)).view(64, 64).sum(1)
    first = len(group) * torch.func.vmap(f)(points - centre * flip)
    assert (far - exact).norm() < 0.3 * (first - exact).norm()  # the second order is worth having


@pytest.mark.parametrize("kernels", [pytest.param("compiled", marks=compiled), "torch"])
def test_any_order_of_the_points_gives_the_same_repulsion(monkeypatch, kernels):
    """Groups are only a way to sum: those of another map, or of none, leave push and Z within the tolerance."""
    if kernels == "torch":
        monkeypatch.setattr(leaves, "fast", None)
    Y, sigma, scale, push, Z = far_apart(1500, density=True)
    other = Y + 3 * torch.as_tensor(np.random.default_rng(7).standard_normal(Y.shape)).float()
    for order in (leaves.group(other), torch.as_tensor(np.random.default_rng(8).permutation(1500))):
        got, mass = leaves.repulsion(Y, sigma, scale, 0.25, order)
        assert (got - push).norm() <= 0.01 * push.norm()
        assert mass.item() == pytest.approx(Z.item(), rel=0.01)


@compiled
def test_group_halves_along_the_longer_side():
    Y = torch.as_tensor(np.random.default_rng(1).uniform(size=(1000, 2)) * [8, 1]).float()
    order = leaves.group(Y)
    assert sorted(order.tolist()) == list(range(1000))
    runs = Y[order][:992].view(16, 62, 2)  # 16 leaves of 62 or 63
    assert (runs.max(1).values - runs.min(1).values).mean() < 1.2  # of area 1/2 each
    assert Y[order[:500], 0].max() <= Y[order[500:], 0].min()


def test_tile_is_a_permutation_of_close_points():
    Y = torch.as_tensor(np.random.default_rng(1).uniform(size=(1000, 2)))
    order = leaves.tile(Y, 20)
    assert sorted(order.tolist()) == list(range(1000))
    extent = Y[order].view(50, 20, 2)
    assert (extent.max(1).values - extent.min(1).values).mean() < 0.25  # 50 leaves in the unit square: sides about 1/7


@pytest.mark.parametrize("kernels", ["compiled", "torch"])
@pytest.mark.parametrize("density", [False, True])
def test_sparse_objective_equals_the_dense_one(monkeypatch, kernels, density):
    if kernels == "torch":
        monkeypatch.setattr(leaves, "fast", None)
    rng = np.random.default_rng(4)
    X = rng.standard_normal((200, 6)) * rng.uniform(0.5, 3, (200, 1))
    P, sigma = neighbour_affinities(X, perplexity=15.0, symmetrise="sigma" if density else "conditional")
    Y = torch.as_tensor(4 * rng.standard_normal((200, 2)))
    gamma = density_scale(torch.as_tensor(sigma)) if density else None
    loss, _ = kl_objective(Y, torch.as_tensor(P.toarray()), gamma=gamma)
    gradient = kl_gradient(Y, torch.as_tensor(P.toarray()), gamma=gamma, exaggeration=4.0)
    problem = SparseKL(P, sigma if density else None, theta=0.0)
    assert problem.loss(Y.float()) == pytest.approx(loss.item(), rel=1e-4)
    torch.testing.assert_close(problem.gradient(Y.float(), 4.0).double(), gradient, atol=1e-6, rtol=1e-3)


@compiled
@pytest.mark.parametrize("density", [False, True])
def test_compiled_gradient_over_all_pairs(density):
    X = np.random.default_rng(8).standard_normal((60, 4)) * np.repeat([1.0, 3.0], 30)[:, None]
    P, sigma = affinities(X, perplexity=10, symmetrise="sigma" if density else "conditional")
    gamma = density_scale(sigma) if density else None
    Y = torch.as_tensor(np.random.default_rng(9).standard_normal((60, 2)))
    fast = leaves.dense_gradient(Y.float(), P.float(), gamma, sigma if density else None)(Y.float(), 3.0)
    wanted = kl_gradient(Y, P, gamma=gamma, exaggeration=3.0)
    assert (fast - wanted).abs().max() < 1e-5 * wanted.abs().max()


@compiled
@pytest.mark.parametrize("beta", [0.3, 0.999])
@pytest.mark.parametrize("prior", ["distances", "labels"])
def test_compiled_gradient_of_jedi(prior, beta):
    rng = np.random.default_rng(10)
    P, _ = affinities(rng.standard_normal((60, 4)), perplexity=10)
    known = rng.standard_normal((60, 2)) if prior == "distances" else rng.integers(3, size=60)
    D = distance_matrix(known) if prior == "distances" else label_distances(known)
    R, _ = prior_affinities(D, 10)
    Y = torch.as_tensor(rng.standard_normal((60, 2)))
    fast = leaves.jedi_gradient(Y.float(), P.float(), R.float(), 0.4, beta)(Y.float(), 2.0)
    wanted = jedi_objective(Y, P, R, 0.4, beta, exaggeration=2.0)[1]
    assert (fast - wanted).abs().max() < 1e-4 * wanted.abs().max()
