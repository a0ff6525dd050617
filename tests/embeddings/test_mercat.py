"""Mercat: the loss from its definition, invariances and limits; the estimator; geometry of the sphere; bad input."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.base import clone

from shared.embeddings import (
    Mercat,
    angle_corr,
    angle_cosines,
    angle_loss,
    exp_map,
    face_on,
    from_lonlat,
    pairwise_directions,
    pairwise_tangents,
    pca_denoise,
    procrustes_align,
    project_to_tangent,
    random_rotation,
    random_triples,
    retract,
    sphere_patch,
    to_lonlat,
    triple_angles,
)
from shared.embeddings._mercat import _batches, _loss_and_slope
from shared.worlds import gaussian_clusters, lift_dimensions


def unit(n, seed=0):
    Y = np.random.default_rng(seed).standard_normal((n, 3))
    return Y / np.linalg.norm(Y, axis=1, keepdims=True)


def flat_angle(a, b, c):
    u, v = b - a, c - a
    return np.arccos(np.clip(u @ v / np.linalg.norm(u) / np.linalg.norm(v), -1, 1))


def sphere_angle(a, b, c):
    """By the spherical law of cosines for the three arcs: another route than tangents."""
    ab, ac, bc = (np.arccos(np.clip(p @ q, -1, 1)) for p, q in ((a, b), (a, c), (b, c)))
    cosine = (np.cos(bc) - np.cos(ab) * np.cos(ac)) / (np.sin(ab) * np.sin(ac))
    return np.arccos(np.clip(cosine, -1, 1))


def loss(X, Y, kind="cos"):
    return angle_loss(angle_cosines(pairwise_directions(torch.as_tensor(X))), torch.as_tensor(Y), kind=kind)


@pytest.mark.parametrize("kind", ["cos", "angle"])
def test_loss_from_its_definition(kind):
    X, Y = np.random.default_rng(1).standard_normal((12, 4)), unit(12)
    f = np.cos if kind == "cos" else (lambda a: a)
    terms = [
        (f(flat_angle(X[i], X[j], X[k])) - f(sphere_angle(Y[i], Y[j], Y[k]))) ** 2
        for i, j, k in itertools.permutations(range(12), 3)
    ]
    assert loss(X, Y, kind).item() == pytest.approx(np.mean(terms), rel=1e-6)


@pytest.mark.parametrize("kind", ["cos", "angle"])
def test_gradient_equals_finite_differences(kind):
    X, Y = np.random.default_rng(1).standard_normal((7, 4)), torch.as_tensor(unit(7))
    data = angle_cosines(pairwise_directions(torch.as_tensor(X)))
    assert torch.autograd.gradcheck(
        lambda Y: angle_loss(data, torch.nn.functional.normalize(Y, dim=1), kind=kind), Y.requires_grad_(), atol=1e-6
    )


@pytest.mark.parametrize("kind", ["cos", "angle"])
def test_closed_form_gradient_is_that_of_the_loss(kind):
    X, Y = torch.as_tensor(np.random.default_rng(3).standard_normal((9, 4))), torch.as_tensor(unit(9))
    X[2], Y[5] = X[1], Y[6]  # coincident in the data, and on the sphere
    place = Y.clone().requires_grad_()
    wanted = angle_loss(angle_cosines(pairwise_directions(X)), place, kind=kind)
    loss, slope = _loss_and_slope(X, Y, kind)
    torch.testing.assert_close(loss, wanted.detach())
    torch.testing.assert_close(
        project_to_tangent(Y, slope), project_to_tangent(Y, torch.autograd.grad(wanted, place)[0])
    )


def test_batches_are_an_unbiased_sample_of_all_triples():
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((20, 4)), unit(20)
    whole = loss(X, Y).item()
    sampled = np.array([loss(X[b], Y[b]).item() for b in _batches(20, 6, 4000, rng)])
    assert abs(sampled.mean() - whole) < 4 * sampled.std() / np.sqrt(len(sampled))


def test_batches_visit_all_points_alike():
    batches = list(_batches(10, 4, 50, np.random.default_rng(3)))
    assert all(len(np.unique(b)) == 4 for b in batches)
    assert np.ptp(np.bincount(np.concatenate(batches))) <= 2


@pytest.mark.parametrize("kind", ["cos", "angle"])
def test_loss_ignores_rotation_shift_and_scale(kind):
    rng = np.random.default_rng(4)
    X, Y = rng.standard_normal((15, 5)), unit(15)
    turned = 3 * X @ np.linalg.qr(rng.standard_normal((5, 5)))[0] + 7
    assert loss(turned, Y @ random_rotation(generator=rng), kind).item() == pytest.approx(
        loss(X, Y, kind).item(), rel=1e-9
    )


def test_flat_limit():
    """A small cap is flat up to its size squared: the loss in angles falls with the fourth power of the size."""
    X = np.random.default_rng(5).uniform(-1, 1, (15, 2))
    large, small = (loss(X, from_lonlat(size * X), "angle").item() for size in (0.1, 0.01))
    assert large < 1e-4
    assert small == pytest.approx(large * 1e-4, rel=0.1)


def test_coincident_and_antipodal_points_are_left_out():
    X = np.random.default_rng(6).standard_normal((8, 3))
    Y = unit(8)
    Y[1], Y[2] = Y[0], -Y[0]
    X[4] = X[3]
    here = torch.as_tensor(Y).requires_grad_()
    value = angle_loss(angle_cosines(pairwise_directions(torch.as_tensor(X))), here)
    (slope,) = torch.autograd.grad(value, here)
    assert torch.isfinite(value)
    assert torch.isfinite(slope).all()


@pytest.fixture(scope="module")
def clusters():
    return gaussian_clusters([25] * 5, [2] * 5, 30, generator=np.random.default_rng(0), extent=20)


def test_fit_lowers_the_loss_and_raises_the_angles(clusters):
    X, _ = clusters
    model = Mercat(max_iter=400, random_state=0).fit(X)
    np.testing.assert_allclose(np.linalg.norm(model.embedding_, axis=1), 1)
    assert model.loss_ < 0.8 * model.start_loss_
    scores = pca_denoise(X)
    maps = sphere_patch(scores), model.embedding_
    before, after = (angle_corr(scores, Y, geometry="sphere", generator=np.random.default_rng(1)) for Y in maps)
    assert after > before + 0.02
    np.testing.assert_allclose(from_lonlat(model.lonlat_), model.embedding_, atol=1e-12)


def test_a_sphere_patch_is_recovered():
    """Points whose angles come from a sphere: from a disturbed start the fit finds them again."""
    rng = np.random.default_rng(7)
    truth = from_lonlat(rng.uniform(-0.05, 0.05, (40, 2)))
    start = truth + 0.005 * rng.standard_normal((40, 3))
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    model = Mercat(rank=3, init=start, max_iter=500, lr=0.002, random_state=0).fit(truth)
    assert model.loss_ < 0.05 * model.start_loss_


@pytest.mark.parametrize("loss", ["cos", "angle"])
def test_same_seed_same_map(clusters, loss):
    X, _ = clusters
    first, again, other = (Mercat(max_iter=20, loss=loss, random_state=s).fit_transform(X) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_restarts_keep_the_best(clusters):
    X, _ = clusters
    one = Mercat(max_iter=100, init="random", random_state=0).fit(X)
    more = Mercat(max_iter=100, init="random", n_restarts=2, random_state=0).fit(X)
    assert more.loss_ <= one.loss_ * 1.02  # judged on other triples
    assert 0 <= more.best_start_ <= 2


def test_callback_and_conventions(clusters):
    X, _ = clusters
    seen = []
    model = Mercat(max_iter=300, callback=lambda t, Y: seen.append(t) or t >= 100, random_state=0)
    assert len(model.fit(X).loss_curve_) == 100
    assert seen == [50, 100]
    assert clone(model).get_params()["max_iter"] == 300
    assert not hasattr(model, "transform")  # there is no map for new points


def test_auto_steps_are_linear_in_n():
    X = np.random.default_rng(8).standard_normal((70, 3))
    curve = Mercat(batch_points=10, callback=lambda t, Y: True, callback_every=1400).fit(X).loss_curve_
    assert len(curve) == 1400


def test_denoise_finds_the_signal():
    rng = np.random.default_rng(9)
    noisy = lift_dimensions(5 * rng.standard_normal((200, 3)), 60, 0.3, generator=rng)
    assert pca_denoise(noisy).shape == (200, 3)
    centred = noisy - noisy.mean(0)
    full = pca_denoise(noisy, rank=60)
    np.testing.assert_allclose(full @ full.T, centred @ centred.T, atol=1e-8)


def test_noise_biases_angles_and_denoising_helps():
    rng = np.random.default_rng(10)
    signal = 3 * rng.standard_normal((60, 2))
    noisy = lift_dimensions(signal, 1000, 0.5, generator=rng)
    at = random_triples(60, 5000, generator=rng)
    raw, clean = (
        np.abs(triple_angles(X, at) - triple_angles(signal, at)).mean() for X in (noisy, pca_denoise(noisy, rank=2))
    )
    assert raw > 2 * clean


def test_duplicates_are_fine(clusters):
    X, _ = clusters
    X = np.r_[X, X[:10]]
    assert np.isfinite(Mercat(max_iter=50, random_state=0).fit_transform(X)).all()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda X: X[:3], {}, "3 points; at least 4"),
        (lambda X: np.where(X == X.max(), np.nan, X), {}, "NaN"),
        (lambda X: np.ones_like(X), {}, "all points of X are equal"),
        (lambda X: X, {"rank": 31}, "rank=31"),
        (lambda X: X, {"rank": 0}, "rank=0"),
        (lambda X: X, {"loss": "sin"}, "loss='sin'"),
        (lambda X: X, {"init": "umap"}, "init='umap'"),
        (lambda X: X, {"init": np.ones((125, 3))}, "unit vectors"),
        (lambda X: X, {"init": np.ones((3, 3))}, "init has shape"),
        (lambda X: X, {"batch_points": 3}, "batch_points=3"),
        (lambda X: X, {"max_iter": 0}, "max_iter=0"),
        (lambda X: X, {"lr": 0.0}, "lr=0.0"),
    ],
)
def test_bad_input(clusters, change, options, message):
    with pytest.raises(ValueError, match=message):
        Mercat(**options).fit(change(clusters[0]))


def test_tangents_are_unit_and_tangent():
    Y = torch.as_tensor(unit(9))
    T = pairwise_tangents(Y)
    off = ~torch.eye(9, dtype=torch.bool)
    torch.testing.assert_close(T.norm(dim=-1)[off], torch.ones(72, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close((T * Y[:, None]).sum(-1), torch.zeros(9, 9, dtype=torch.float64), atol=1e-9, rtol=0)


def test_steps_on_the_sphere():
    Y = torch.as_tensor(unit(50))
    V = project_to_tangent(Y, torch.as_tensor(np.random.default_rng(1).standard_normal((50, 3))))
    torch.testing.assert_close((V * Y).sum(1), torch.zeros(50, dtype=torch.float64), atol=1e-12, rtol=0)
    V = V / V.norm(dim=1, keepdim=True)
    arc = exp_map(Y, 0.7 * V)
    torch.testing.assert_close((arc * Y).sum(1), torch.full((50,), np.cos(0.7), dtype=torch.float64))
    torch.testing.assert_close(exp_map(Y, 0 * V), Y)
    gaps = [(exp_map(Y, h * V) - retract(Y, h * V)).norm(dim=1).max().item() for h in (1e-1, 1e-2)]
    assert gaps[1] < 2e-3 * gaps[0]  # they differ in third order


def test_coordinates_and_rotations():
    Y = unit(50)
    np.testing.assert_allclose(from_lonlat(to_lonlat(Y)), Y, atol=1e-12)
    R = random_rotation(generator=np.random.default_rng(2))
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1)
    np.testing.assert_allclose(procrustes_align(Y @ R, Y), Y, atol=1e-10)
    cap = from_lonlat(np.random.default_rng(3).normal(0, [0.5, 0.1], (80, 2)))
    turned = face_on(cap @ R)
    np.testing.assert_allclose(turned.mean(0)[1:], 0, atol=1e-10)
    assert np.ptp(turned[:, 1]) > 2 * np.ptp(turned[:, 2])
    np.testing.assert_allclose(np.abs(turned @ turned.T - cap @ cap.T).max(), 0, atol=1e-10)


def test_patch_spans_its_share():
    X = np.c_[np.linspace(-3, 7, 50), np.linspace(0, 2, 50) ** 2]
    lonlat = to_lonlat(sphere_patch(X))
    assert np.ptp(lonlat[:, 0]) == pytest.approx(0.7 * np.pi)
    assert np.ptp(lonlat[:, 1]) == pytest.approx(0.7 * np.pi * 0.4)


def test_angles_of_many_dimensions_are_those_of_few():
    X = np.random.default_rng(4).standard_normal((30, 3))
    X[7] = X[8]
    wide = np.pad(X, ((0, 0), (0, 200))) @ np.linalg.qr(np.random.default_rng(5).standard_normal((203, 203)))[0] + 5
    at = random_triples(30, 500, generator=np.random.default_rng(6))
    few, many = triple_angles(X, at), triple_angles(wide, at)
    assert np.isnan(few).any()
    np.testing.assert_allclose(many, few, atol=1e-6)
