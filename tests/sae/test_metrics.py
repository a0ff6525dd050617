"""Metrics against their definitions, pair by pair and row by row."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from shared.sae import SAEConfig, SparseCodes, SparseDict, metrics


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pair():
    x = torch.randn(200, 6, generator=rng(0), dtype=torch.float64)
    return x, 0.8 * x + 0.1 * torch.randn(200, 6, generator=rng(1), dtype=torch.float64)


def test_a_constant_error_costs_fvu_but_not_explained_variance():
    x, x_hat = pair()
    assert metrics.explained_variance(x, x_hat + 5) == pytest.approx(metrics.explained_variance(x, x_hat), abs=1e-12)
    assert metrics.fvu(x, x_hat + 5) > 10
    residual = (x - x_hat).var(0, correction=0).sum() / x.var(0, correction=0).sum()
    assert metrics.explained_variance(x, x_hat) == pytest.approx(1 - float(residual))
    assert metrics.fvu(x, x) == 0
    assert metrics.fvu(x, x.mean(0).expand_as(x)) == pytest.approx(1)


def test_shrinkage_shows_in_the_ratio_and_the_relative_bias():
    x, _ = pair()
    assert metrics.l2_ratio(x, 0.8 * x) == pytest.approx(0.8)
    assert metrics.relative_reconstruction_bias(x, 0.8 * x) == pytest.approx(0.8)
    assert metrics.relative_reconstruction_bias(x, x) == pytest.approx(1)
    assert metrics.cosine(x, 0.8 * x) == pytest.approx(1)


def test_constant_data_and_rows_of_zeros_have_their_value():
    x, x_hat = pair()
    same = torch.full_like(x, 0.3)
    assert metrics.explained_variance(same, same) == metrics.explained_variance(same, same + 1) == 1
    assert metrics.explained_variance(same, x_hat) == 0
    assert metrics.fvu(same, same) == 0
    assert metrics.fvu(same, x_hat) == 1
    with_zero = torch.cat([torch.zeros(1, 6), x])
    ratio = metrics.l2_ratio(with_zero, torch.cat([x_hat[:1], 0.8 * x]))
    assert ratio == pytest.approx(0.8)
    assert math.isnan(metrics.l2_ratio(torch.zeros(2, 6), x_hat[:2]))


def test_counts_agree_for_dense_and_sparse_codes():
    codes = torch.randn(50, 20, generator=rng(2)).relu()
    codes[:, :3] = 0
    sparse = SparseCodes.from_dense(codes)
    assert metrics.l0(codes) == pytest.approx(metrics.l0(sparse)) == pytest.approx(int((codes > 0).sum()) / 50)
    assert torch.allclose(metrics.firing_rate(codes), metrics.firing_rate(sparse))
    assert metrics.dead_fraction(codes) == metrics.dead_fraction(sparse) == pytest.approx(3 / 20)


def test_matching_undoes_a_permutation_and_ignores_scale():
    truth = torch.randn(7, 12, generator=rng(3))
    order = torch.randperm(9, generator=rng(4))
    found = torch.cat([3 * truth, torch.randn(2, 12, generator=rng(5))])[order]
    columns, cosines = metrics.match_dictionary(found, truth)
    assert torch.equal(order[columns], torch.arange(7))
    assert torch.allclose(cosines, torch.ones(7), atol=1e-6)
    assert metrics.mcc(torch.randn(9, 12, generator=rng(6)), truth) < 0.8


def test_f1_and_absorption_of_a_case_counted_by_hand():
    parent = torch.tensor([1, 1, 1, 1, 0, 0]).bool()[:, None]
    child = torch.tensor([1, 1, 0, 0, 0, 0]).bool()[:, None]
    # latent 0 is silent in one of the two rows with a child; latent 1 is noise
    codes = torch.tensor([[0.0, 0], [2, 0], [1, 0], [1, 1], [0, 1], [0, 1]])
    f1, latent = metrics.feature_f1(codes, parent)
    assert latent.item() == 0
    assert f1.item() == pytest.approx(2 * 3 / (3 + 4))
    assert metrics.absorption(codes, parent, child).item() == pytest.approx(0.5)
    assert metrics.absorption(codes, parent, child, latent=torch.tensor([1])).item() == pytest.approx(1.0)


def test_monosemanticity_is_the_weighted_mean_over_pairs():
    codes = torch.rand(15, 4, generator=rng(7)).double()
    codes[:, 3] = 0
    embeddings = torch.randn(15, 5, generator=rng(8)).double()
    unit = nn.functional.normalize(embeddings, dim=1)
    scores = metrics.monosemanticity(codes, embeddings)
    for j in range(3):
        a = (codes[:, j] - codes[:, j].min()) / (codes[:, j].max() - codes[:, j].min())
        pairs = [(n, m) for n in range(15) for m in range(15) if n != m]
        total = sum(a[n] * a[m] for n, m in pairs)
        assert float(scores[j]) == pytest.approx(float(sum(a[n] * a[m] * unit[n] @ unit[m] for n, m in pairs) / total))
    assert scores[3].isnan()
    same = metrics.monosemanticity(codes, embeddings[:1].expand(15, 5))
    assert torch.allclose(same[:3], torch.ones(3, dtype=torch.float64))


def test_loss_recovered_runs_from_ablation_to_nothing_lost():
    assert metrics.loss_recovered(1.0, 1.0, 3.0) == 1
    assert metrics.loss_recovered(1.0, 3.0, 3.0) == 0
    with pytest.warns(UserWarning, match="undefined"):
        assert math.isnan(metrics.loss_recovered(1.0, 1.0, 1.0005))


def test_downstream_loss_of_a_perfect_and_of_a_useless_dictionary():
    model = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 2))
    x, target = torch.randn(30, 5, generator=rng(9)), torch.randn(30, 2, generator=rng(10))
    with torch.no_grad():
        target = model(x) + 0.01 * target

    def loss(net):
        return nn.functional.mse_loss(net(x), target)

    q = torch.linalg.qr(torch.randn(6, 6, generator=rng(11))).Q
    sae = SparseDict(SAEConfig("standard", 6, 12))
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([q, -q]))
        sae.W_enc.copy_(sae.W_dec.T)
    assert metrics.downstream_loss(model, "0", sae, loss)["recovered"] == pytest.approx(1, abs=1e-3)
    with torch.no_grad():
        sae.W_dec.zero_()
    result = metrics.downstream_loss(model, "0", sae, loss)
    assert result["recovered"] == pytest.approx(0, abs=1e-6)
    assert result["spliced"] == pytest.approx(result["ablated"])
    mean = metrics.downstream_loss(model, "0", sae, loss, ablation="mean")
    assert mean["ablated"] != pytest.approx(result["ablated"])
    with pytest.raises(ValueError, match="ablation"):
        metrics.downstream_loss(model, "0", sae, loss, ablation="noise")


def test_bad_input_is_refused():
    x, x_hat = pair()
    with pytest.raises(ValueError, match="x_hat"):
        metrics.fvu(x, x_hat[:5])
    with pytest.raises(ValueError, match="NaN"):
        metrics.explained_variance(x, x_hat * float("nan"))
    with pytest.raises(ValueError, match="truth"):
        metrics.feature_f1(x, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="truth"):
        metrics.mcc(x, torch.zeros(3, 5))
    with pytest.raises(ValueError, match="embeddings"):
        metrics.monosemanticity(x, x[:4])
