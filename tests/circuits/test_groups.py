"""Groups of contributions on planted units and against scikit-learn on whole vectors; shares and controls by hand."""

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from torch import nn

from shared.circuits import (
    SplitLayer,
    contribution_groups,
    group_shares,
    permuted_shares,
    random_shares,
    split_by_shares,
    top_contributions,
)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def planted(k=3, n=40, inputs=24, seed=0):
    """Tokens (n·k, inputs) of k kinds, each with its own inputs on, a common rest, and their kinds."""
    kinds = torch.arange(k).repeat(n)
    on = (torch.arange(inputs) % (k + 1))[None] == kinds[:, None]
    noise = torch.rand(n * k, inputs, generator=gen(seed), dtype=torch.float64)
    return on * (1 + noise) + 0.3 * noise, kinds


def test_top_contributions_by_hand():
    activations = torch.tensor([[[1.0, 0], [3, 0], [2, 1]], [[0, 5], [0, 0], [9, 9]]])
    weight = torch.tensor([2.0, -1])
    assert top_contributions(weight, activations, n=3, per_text=2).tolist() == [[18, -9], [6, 0], [4, -1]]
    assert top_contributions(weight, activations, per_text=1).tolist() == [[18, -9], [6, 0]]
    assert len(top_contributions(weight, activations)) == 6


@pytest.mark.parametrize("k", [2, 3, 4])
def test_planted_kinds_are_found(k):
    tokens, kinds = planted(k)
    groups = contribution_groups(tokens, k_max=5)
    assert adjusted_rand_score(kinds, groups.labels) == 1
    shares = group_shares(groups.means)
    own = torch.arange(24) % (k + 1)
    for kind in range(k):  # an input of one kind goes to the sub-unit of that kind, common ones to all
        assert set(shares[:, own == kind].argmax(0).tolist()) == {int(groups.labels[kinds == kind][0])}
    assert float((shares[:, own == k] - 1 / k).abs().max()) < 0.1
    hard = group_shares(groups.means, split="hard")
    assert torch.equal(hard[:, own < k].amax(0), hard.new_ones(int((own < k).sum())))
    assert torch.allclose(hard[:, own == k], hard.new_tensor(1 / k))


def test_groups_are_scikit_learns_of_the_whole_vectors():
    torch.manual_seed(0)
    tokens = torch.randn(60, 30, dtype=torch.float64)
    groups = contribution_groups(tokens, k_max=4, random_state=3)
    unit = tokens.clamp_min(0)
    unit = unit / unit.norm(dim=1, keepdim=True)
    scores = {}
    for k in (2, 3, 4):
        labels = KMeans(k, n_init=4, random_state=3).fit(unit.numpy()).labels_
        scores[k] = (silhouette_score(unit, labels, metric="cosine"), labels)
    best = max(scores, key=lambda k: scores[k][0])
    assert groups.silhouette == pytest.approx(scores[best][0], abs=1e-6)
    assert adjusted_rand_score(scores[best][1], groups.labels) == pytest.approx(1)
    for k, mean in enumerate(groups.means):
        assert torch.allclose(mean, tokens.clamp_min(0)[groups.labels == k].mean(0))


def test_scale_and_order_of_tokens_and_of_inputs_play_no_part():
    tokens, _ = planted()
    before = contribution_groups(tokens)
    scaled = contribution_groups(tokens * torch.linspace(0.1, 9, len(tokens))[:, None])
    assert torch.equal(scaled.labels, before.labels)
    order, inputs = torch.randperm(len(tokens), generator=gen(1)), torch.randperm(24, generator=gen(2))
    moved = contribution_groups(tokens[order][:, inputs])
    assert adjusted_rand_score(before.labels[order], moved.labels) == 1
    assert moved.silhouette == pytest.approx(before.silhouette)
    assert torch.allclose(moved.means.sort(0).values, before.means[:, inputs].sort(0).values)


def test_a_unit_without_groups_stays_whole():
    tokens, _ = planted()
    for groups in (contribution_groups(tokens, k_max=1), contribution_groups(tokens, min_silhouette=0.999)):
        assert (len(groups.means), groups.silhouette, groups.labels.unique().tolist()) == (1, 0, [0])
        assert torch.equal(group_shares(groups.means), tokens.new_ones(1, 24))
    alike = contribution_groups(tokens[:1].repeat(20, 1))
    assert len(alike.means) == 1
    silent = contribution_groups(-tokens)
    assert silent.labels.unique().tolist() == [-1]
    assert not silent.means.any()
    partly = contribution_groups(torch.cat([tokens, -tokens[:5]]))
    assert partly.labels[-5:].tolist() == [-1] * 5
    assert partly.labels[:-5].min() >= 0


@pytest.mark.parametrize("split", ["soft", "hard"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shares_and_controls_keep_the_layer(split, dtype):
    tokens, _ = planted()
    means = contribution_groups(tokens.to(dtype)).means
    shares = group_shares(means, split=split)
    strength = means.mean(0)
    controls = (
        permuted_shares(shares, strength, generator=gen()),
        random_shares(strength, 3, generator=gen(), n_inputs=9),
    )
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 4).to(dtype), torch.randn(7, 24, dtype=dtype)
    for dealt in (shares, *controls):
        assert dealt.dtype == dtype
        assert torch.allclose(dealt.sum(0), dealt.new_ones(24))
        split_layer = SplitLayer(layer, {2: split_by_shares(dealt)})
        torch.testing.assert_close(split_layer(x), layer(x))


def test_controls_by_hand():
    shares = torch.stack([torch.arange(8.0) / 10, 1 - torch.arange(8.0) / 10])
    strength = torch.tensor([8.0, 1, 7, 2, 6, 3, 5, 4])
    moved = permuted_shares(shares, strength, generator=gen(), block=4)
    strong = strength > 4
    assert torch.equal(moved[:, strong].sort(1).values, shares[:, strong].sort(1).values)
    assert torch.equal(moved[:, ~strong].sort(1).values, shares[:, ~strong].sort(1).values)
    assert not torch.equal(moved, shares)
    dealt = random_shares(strength, 2, generator=gen(), n_inputs=4)
    assert dealt[:, ~strong].eq(0.5).all()
    assert dealt[:, strong].sum(1).tolist() == [2, 2]


def test_soft_shares_by_hand():
    means = torch.tensor([[3.0, 0, 1], [1, 0, 1]])
    shares = group_shares(means, floor=1e-9)
    torch.testing.assert_close(shares, torch.tensor([[0.75, 0.5, 0.5], [0.25, 0.5, 0.5]]))
    assert torch.equal(group_shares(torch.zeros(2, 3)), torch.full((2, 3), 0.5))


def test_bad_input_is_named():
    tokens, _ = planted()
    with pytest.raises(ValueError, match=r"contributions has 7 tokens; k_max=4 groups need 8"):
        contribution_groups(tokens[:7])
    with pytest.raises(ValueError, match="k_max=0"):
        contribution_groups(tokens, k_max=0)
    with pytest.raises(ValueError, match="means must not be negative"):
        group_shares(-tokens[:2])
    with pytest.raises(ValueError, match="split='sofd'"):
        group_shares(tokens[:2], split="sofd")
    with pytest.raises(ValueError, match="floor=0"):
        group_shares(tokens[:2], floor=0)
    with pytest.raises(ValueError, match="activations has shape"):
        top_contributions(torch.ones(3), torch.ones(2, 4, 5))
    with pytest.raises(ValueError, match="n_inputs=2"):
        random_shares(torch.ones(5), 3, generator=gen(), n_inputs=2)
    with pytest.raises(ValueError, match="strength has shape"):
        permuted_shares(torch.ones(1, 5), torch.ones(4), generator=gen())


def test_more_sub_units_than_inputs_are_refused():
    with pytest.raises(ValueError, match="k=5 is out of range"):
        random_shares(torch.ones(3), 5, generator=torch.Generator().manual_seed(0))
