"""Several concepts at once: regression on all labels, orthogonalisation, fine-tuning."""

import math

import pytest
import torch
from sklearn.linear_model import LinearRegression

from shared import probes


@pytest.fixture
def planted():
    """h = Σ y_c g_c + noise, orthonormal g (4, 16), two pairs of correlated labels."""
    rng = torch.Generator().manual_seed(0)
    G = torch.linalg.qr(torch.randn(16, 4, generator=rng).double()).Q.T
    common = torch.randn(3000, 2, generator=rng).double().repeat_interleave(2, 1)
    Y = (0.8 * common + 0.6 * torch.randn(3000, 4, generator=rng).double() > 0).long()
    H = 1.2 * Y.double() @ G + 0.4 * torch.randn(3000, 16, generator=rng).double()
    return H, Y, G


def test_regression_on_all_labels_equals_scikit_learn_and_finds_the_truth(planted):
    H, Y, G = planted
    ours = probes.multi_pattern(H, Y)
    peer = LinearRegression().fit(Y.numpy(), H.numpy()).coef_.T
    assert torch.allclose(ours, torch.from_numpy(peer), atol=1e-8)
    off = ~torch.eye(4, dtype=torch.bool)
    plain = torch.stack([d.vector for d in probes.fit_directions(H, Y)])
    assert float(probes.leakage(ours, G)[off].max()) < 0.06
    assert float(probes.leakage(plain, G)[off].max()) > 0.3


def test_loewdin_is_orthonormal_and_the_nearest(planted):
    H, Y, _ = planted
    V = torch.stack([d.vector for d in probes.fit_directions(H, Y)]).double()
    W = probes.orthogonalise(V, how="loewdin")
    assert torch.allclose(W @ W.T, torch.eye(4).double(), atol=1e-10)
    rng = torch.Generator().manual_seed(1)
    for _ in range(100):
        turn = torch.linalg.qr(torch.eye(4).double() + 0.1 * torch.randn(4, 4, generator=rng).double()).Q
        assert (turn @ W - V).norm() >= (W - V).norm() - 1e-12
    assert (probes.orthogonalise(V, how="gram_schmidt") - V).norm() > (W - V).norm()


def test_gram_schmidt_keeps_the_first():
    V = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)).double()
    W = probes.orthogonalise(V, how="gram_schmidt")
    assert torch.allclose(W @ W.T, torch.eye(3).double(), atol=1e-10)
    assert torch.allclose(W[0], V[0] / V[0].norm())
    assert ((W * V).sum(1) > 0).all()


def test_permuting_concepts_permutes_the_result(planted):
    H, Y, _ = planted
    V = torch.stack([d.vector for d in probes.fit_directions(H, Y)]).double()
    order = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(probes.orthogonalise(V[order]), probes.orthogonalise(V)[order], atol=1e-10)


def test_rotation_rotates_the_result(planted):
    H, Y, _ = planted
    Q = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(2)).double()).Q
    assert torch.allclose(probes.multi_pattern(H @ Q, Y), probes.multi_pattern(H, Y) @ Q, atol=1e-8)
    V = probes.multi_pattern(H, Y)
    assert torch.allclose(probes.orthogonalise(V @ Q), probes.orthogonalise(V) @ Q, atol=1e-8)


def test_loss_without_the_big_array_equals_the_definition(planted):
    from shared.probes._disentangle import _reconstruction

    H, Y, G = planted
    h, y, b = H[:50], Y[:50].double(), torch.randn(4, 16).double()
    slow = sum(((h[i] - (y[i, c] * G[c] + b[c])) ** 2).sum() for i in range(50) for c in range(4))
    assert torch.allclose(_reconstruction(h, y, G, b), slow)


def test_without_a_penalty_training_keeps_the_closed_form(planted):
    H, Y, _ = planted
    rng = torch.Generator().manual_seed(0)
    V, _ = probes.finetune(H, Y, alpha=0.0, epochs=10, batch_size=128, early_exit=None, generator=rng)
    plain = torch.stack([d.vector for d in probes.fit_directions(H, Y)])
    assert float((V * plain).sum(1).min()) > 0.999


def test_penalty_makes_directions_orthogonal_and_keeps_the_concepts(planted):
    H, Y, G = planted
    before = torch.stack([d.vector for d in probes.fit_directions(H, Y)])
    rng = torch.Generator().manual_seed(0)
    V, log = probes.finetune(H, Y, alpha=0.1, epochs=20, batch_size=128, generator=rng)
    assert float(probes.orthogonality(V).mean()) > 0.98 > 0.9 > float(probes.orthogonality(before).mean())
    change = probes.auroc_cosine(V, H, Y).mean() - probes.auroc_cosine(before, H, Y).mean()
    assert float(change) > -0.01
    assert log.orthogonality[0] < log.orthogonality[-1]
    assert log.kept in log.epoch
    off = ~torch.eye(4, dtype=torch.bool)
    assert float(probes.leakage(V, G)[off].max()) < float(probes.leakage(before, G)[off].max()) / 2


def test_gradient_is_finite_at_an_orthonormal_start(planted):
    H, Y, G = planted
    rng = torch.Generator().manual_seed(0)
    V, _ = probes.finetune(H, Y, start=G, alpha=1.0, epochs=1, batch_size=3000, early_exit=None, generator=rng)
    assert torch.isfinite(V).all()


def test_weights_of_pairs(planted):
    H, Y, _ = planted
    V = torch.stack([d.vector for d in probes.fit_directions(H, Y)])
    A = probes.pair_weights(V, Y, alpha=0.1, beta=4.0, n_targets=2)
    assert A[0, 1] == A[1, 0] == A[2, 3] == 2
    assert A[0, 2] == A[0, 0] == pytest.approx(0.1)


def test_metrics_from_their_definitions():
    V = torch.tensor([[1.0, 0], [1, 1], [0, 2]])
    half = 1 / math.sqrt(2)
    assert probes.orthogonality(V).tolist() == pytest.approx([1 - half / 2, 1 - half, 1 - half / 2])
    by_k = probes.orthogonality(V, denominator="k").tolist()
    assert by_k == pytest.approx([1 - half / 3, 1 - 2 * half / 3, 1 - half / 3])
    assert probes.orthogonality(torch.ones(4, 3), denominator="k").tolist() == pytest.approx([0.25] * 4)
    assert probes.welch_bound(3, 2) == pytest.approx(0.25)  # Mercedes-Benz frame: cosines ±1/2
    assert probes.welch_bound(3, 5) == 0


def test_bad_input(planted):
    H, Y, G = planted
    with pytest.raises(ValueError, match="5 concepts can't be orthogonal in 4"):
        probes.orthogonalise(torch.randn(5, 4))
    with pytest.raises(ValueError, match="allow_overcomplete"):
        probes.finetune(H[:, :3], Y, epochs=1)
    spread, _ = probes.finetune(H[:, :3], Y, epochs=1, batch_size=500, allow_overcomplete=True)
    assert spread.shape == (4, 3)
    with pytest.raises(ValueError, match="dependent"):
        probes.orthogonalise(G[[0, 1, 1]])
    with pytest.raises(ValueError, match="needs H and Y"):
        probes.orthogonalise(G, how="penalty")
    with pytest.raises(ValueError, match="loewdin"):
        probes.orthogonalise(G, how="lowdin")
    rare = Y.clone()
    rare[:, 1] = 0
    with pytest.warns(UserWarning, match=r"concepts \[1\]"):
        V, _ = probes.finetune(H, rare, epochs=1, batch_size=1000)
    assert torch.isnan(V[1]).all()
    assert torch.isfinite(V[[0, 2, 3]]).all()
