"""Maps between two models' representations: equations, peers, invariants."""

import numpy as np
import pytest
import torch

from shared.concepts import PairedMoments, semantic_lens_map

DRAW = torch.Generator().manual_seed(0)


def pair(n=60, d_s=5, d_a=7):
    """Two views of the same hidden causes, with offsets."""
    hidden = torch.randn(n, 4, generator=DRAW, dtype=torch.float64)
    subject = hidden @ torch.randn(4, d_s, generator=DRAW, dtype=torch.float64) + 3
    atlas = hidden @ torch.randn(4, d_a, generator=DRAW, dtype=torch.float64) - 20
    noise = [0.1 * torch.randn(x.shape, generator=DRAW, dtype=torch.float64) for x in (subject, atlas)]
    return subject + noise[0], atlas + noise[1]


MAPS = {
    "covariance": lambda m: m.covariance(),
    "correlation": lambda m: m.correlation(),
    "ridge": lambda m: m.ridge(),
    "procrustes": lambda m: m.procrustes(),
    "procrustes, std": lambda m: m.procrustes(columns="std"),
}


def test_covariance_and_correlation_by_their_definition():
    s, a = pair()
    moments = PairedMoments().update(s, a)
    covariance = np.cov(s.T.numpy(), a.T.numpy(), bias=True)[:5, 5:]
    np.testing.assert_allclose(moments.covariance().matrix, covariance, atol=1e-10)
    r = np.corrcoef(s.T.numpy(), a.T.numpy())[:5, 5:]
    deviations = s.numpy().std(0), a.numpy().std(0)
    np.testing.assert_allclose(moments.correlation().matrix, r / deviations[0][:, None] * deviations[1], atol=1e-10)


def test_ridge_is_scikit_learns():
    linear_model = pytest.importorskip("sklearn.linear_model")
    s, a = pair()
    found = PairedMoments().update(s, a).ridge(penalty=0.3)
    penalty = 0.3 * float(s.var(0, correction=0).mean()) * len(s)
    peer = linear_model.Ridge(alpha=penalty).fit(s.numpy(), a.numpy())
    np.testing.assert_allclose(found.matrix, peer.coef_.T, atol=1e-10)
    np.testing.assert_allclose(found.to_atlas(s), peer.predict(s.numpy()), atol=1e-9)


def test_procrustes_is_scipys():
    linalg = pytest.importorskip("scipy.linalg")
    s, a = pair(d_s=4, d_a=4)
    centred = (s - s.mean(0)).numpy(), (a - a.mean(0)).numpy()
    peer, _ = linalg.orthogonal_procrustes(*centred)
    np.testing.assert_allclose(PairedMoments().update(s, a).procrustes().matrix, peer, atol=1e-10)
    scale = centred[0].std(0), centred[1].std(0)
    turned, _ = linalg.orthogonal_procrustes(centred[0] / scale[0], centred[1] / scale[1])
    found = PairedMoments().update(s, a).procrustes(columns="std").matrix
    np.testing.assert_allclose(found, turned / scale[0][:, None] * scale[1], atol=1e-10)


def test_rows_of_length_one_about_the_means():
    linalg = pytest.importorskip("scipy.linalg")
    s, a = pair(d_s=4, d_a=4)
    unit = [(x - x.mean(0)).numpy() for x in (s, a)]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in unit]
    peer, _ = linalg.orthogonal_procrustes(*(x - x.mean(0) for x in unit))
    origins = s.mean(0), a.mean(0)
    found = PairedMoments(rows="l2", origins=origins).update(s, a).procrustes().matrix
    np.testing.assert_allclose(found, peer, atol=1e-10)
    moved = PairedMoments(rows="l2", origins=(origins[0] + 5, origins[1])).update(s + 5, a).procrustes().matrix
    torch.testing.assert_close(moved, found)


@pytest.mark.parametrize("kind", MAPS)
def test_order_parts_and_offsets_change_nothing(kind):
    s, a = pair()
    whole = MAPS[kind](PairedMoments().update(s, a))
    order = torch.randperm(len(s), generator=DRAW)
    parts = PairedMoments()
    for rows in order.split(7):
        parts.update(s[rows] + 1000, a[rows])
    found = MAPS[kind](parts)
    torch.testing.assert_close(found.matrix, whole.matrix, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.mean_subject, whole.mean_subject + 1000)
    torch.testing.assert_close(found.read_out(s + 1000, a[:3]), whole.read_out(s, a[:3]), atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("kind", ["covariance", "ridge", "procrustes"])
def test_a_turned_subject_turns_the_map(kind):
    s, a = pair()
    turn = torch.linalg.qr(torch.randn(5, 5, generator=DRAW, dtype=torch.float64)).Q
    straight, turned = (MAPS[kind](PairedMoments().update(x, a)).matrix for x in (s, s @ turn))
    torch.testing.assert_close(turned, turn.T @ straight)


def test_a_rotation_is_found_and_a_wrong_pairing_is_not():
    s = torch.randn(200, 6, generator=DRAW, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=DRAW, dtype=torch.float64)).Q
    a = s @ turn + 0.01 * torch.randn(200, 6, generator=DRAW, dtype=torch.float64)
    torch.testing.assert_close(PairedMoments().update(s, a).procrustes().matrix, turn, atol=0.01, rtol=0)
    mixed = PairedMoments().update(s, a[torch.randperm(200, generator=DRAW)]).procrustes().matrix
    assert (mixed - turn).norm() / turn.norm() > 0.5
    torch.testing.assert_close(PairedMoments().update(s, s).procrustes().matrix, torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("widths", [(5, 7), (7, 5)])
def test_procrustes_of_different_widths_turns_the_smaller(widths):
    matrix = PairedMoments().update(*pair(100, *widths)).procrustes().matrix
    smaller = matrix if widths[0] < widths[1] else matrix.T
    torch.testing.assert_close(smaller @ smaller.T, torch.eye(5, dtype=torch.float64))


def test_read_out_is_the_mapped_vector_along_the_direction():
    s, a = pair()
    found = PairedMoments().update(s, a).ridge()
    v = torch.randn(3, 7, generator=DRAW, dtype=torch.float64)
    torch.testing.assert_close(found.read_out(s, v), (found.to_atlas(s) - found.mean_atlas) @ v.T)
    torch.testing.assert_close(found.to_subject(v), v @ found.matrix.T)


def test_semantic_lens_map_by_its_definition():
    s, a = pair(20, 3, 2)
    found = semantic_lens_map(s, a, n_top=4).matrix
    for j in range(3):
        strongest = sorted(range(20), key=lambda i: -float(s[i, j]))[:4]
        torch.testing.assert_close(found[j], sum(a[i] for i in strongest) / 4 - a.mean(0))


def test_constant_columns_and_zero_rows_are_harmless():
    s, a = pair()
    s[:, 1], a[:, 2] = 4.0, 0.0
    moments = PairedMoments().update(s, a)
    for kind in MAPS:
        matrix = MAPS[kind](moments).matrix
        assert matrix.isfinite().all()
    assert PairedMoments(rows="l2").update(torch.zeros(4, 2), torch.zeros(4, 3)).covariance().matrix.eq(0).all()


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("rows", lambda: PairedMoments(rows="l1")),
        ("columns", lambda: PairedMoments().update(*pair()).procrustes(columns="l2")),
        ("penalty", lambda: PairedMoments().update(*pair()).ridge(penalty=-1)),
        ("penalty", lambda: PairedMoments().update(torch.ones(9, 2), torch.rand(9, 2)).ridge(penalty=0)),
        ("atlas", lambda: PairedMoments().update(torch.rand(4, 2), torch.rand(5, 2))),
        ("subject", lambda: PairedMoments().update(torch.rand(4, 2), torch.rand(4, 2)).update(*pair())),
        ("subject", lambda: PairedMoments().update(torch.tensor([[torch.nan]]), torch.rand(1, 2))),
        ("subject", lambda: PairedMoments().update(torch.rand(0, 2), torch.rand(0, 2))),
        ("at least 2", lambda: PairedMoments().update(torch.rand(1, 2), torch.rand(1, 2)).covariance()),
        ("directions", lambda: PairedMoments().update(*pair()).covariance().to_subject(torch.rand(2, 3))),
        ("subject", lambda: PairedMoments().update(*pair()).covariance().to_atlas(torch.rand(2, 3))),
        ("n_top", lambda: semantic_lens_map(*pair(), n_top=0)),
    ],
)
def test_bad_input_is_named(argument, call):
    with pytest.raises(ValueError, match=argument):
        call()


def test_few_inputs_warn():
    with pytest.warns(UserWarning, match="noise"):
        PairedMoments().update(torch.rand(3, 20), torch.rand(3, 4)).covariance()
