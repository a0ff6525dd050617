"""Localisation scores against scikit-learn, definitions worked by hand, and bad input."""

import pytest
import torch
from sklearn.metrics import average_precision_score, jaccard_score, label_ranking_average_precision_score

from shared.metrics import (
    average_precision,
    intersection_over_union,
    positive_share,
    reciprocal_rank,
    relevance_mass,
    top_k_hit,
)

RELEVANCE = torch.tensor([[0.1, 0.9, -0.5, 0.5], [1.0, 1.0, 1.0, 1.0]])
TRUTH = torch.tensor([[False, False, False, True], [True, False, False, False]])


def test_worked_by_hand():
    assert top_k_hit(RELEVANCE, TRUTH).tolist() == pytest.approx([0, 1 / 4])  # four ties, one of them true
    assert top_k_hit(RELEVANCE, TRUTH, k=2).tolist() == pytest.approx([1, 1 / 2])
    assert reciprocal_rank(RELEVANCE, TRUTH).tolist() == [0.5, 1 / 2.5]  # four ties share rank 2.5
    assert relevance_mass(RELEVANCE, TRUTH).tolist() == pytest.approx([0.5 / 1.5, 0.25])
    assert intersection_over_union(RELEVANCE, TRUTH).tolist() == [0.5, 0.25]


def test_among_leaves_features_out():
    among = torch.tensor([[True, False, True, True]] * 2)
    assert reciprocal_rank(RELEVANCE, TRUTH, among=among)[0] == 1
    assert relevance_mass(RELEVANCE, TRUTH, among=among)[0] == pytest.approx(0.5 / 0.6)


def test_reciprocal_rank_of_single_truths_is_label_ranking_average_precision():
    relevance = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    truth = torch.nn.functional.one_hot(torch.arange(50) % 9, 9).bool()
    want = label_ranking_average_precision_score(truth.numpy(), relevance.numpy())
    assert reciprocal_rank(relevance, truth).mean().item() == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_scikit_learns(ties):
    generator = torch.Generator().manual_seed(3)
    relevance = torch.randn(40, 11, generator=generator)
    relevance = relevance.round() if ties else relevance
    truth = torch.rand(40, 11, generator=generator) > 0.7
    truth[:, 3] = True
    want = label_ranking_average_precision_score(truth.numpy(), relevance.numpy())
    assert average_precision(relevance, truth).mean().item() == pytest.approx(want, abs=1e-12)
    if not ties:
        row = average_precision_score(truth[0].numpy(), relevance[0].numpy())
        assert average_precision(relevance, truth)[0].item() == pytest.approx(row, abs=1e-12)


def test_average_precision_ranks_only_among():
    among = torch.tensor([[True, False, True, True], [True, True, False, False]])
    truth = torch.tensor([[True, False, False, True], [True, False, True, False]])
    assert average_precision(RELEVANCE, truth, among=among).tolist() == [1, 0.5]


def test_positive_share():
    truth = torch.tensor([[True, False, True, True], [True, True, True, True]])
    assert positive_share(RELEVANCE, truth).tolist() == pytest.approx([2 / 3, 1])
    assert positive_share(-RELEVANCE, truth).tolist() == pytest.approx([1 / 3, 0])


def test_iou_is_scikit_learns_jaccard():
    relevance = torch.rand(20, 12, generator=torch.Generator().manual_seed(1))
    truth = torch.rand(20, 12, generator=torch.Generator().manual_seed(2)) > 0.6
    truth[:, 0] = True
    chosen = relevance > 0.5 * relevance.amax(1, keepdim=True)
    want = jaccard_score(truth.numpy(), chosen.numpy(), average="samples")
    assert intersection_over_union(relevance, truth).mean().item() == pytest.approx(want, abs=1e-12)


def test_no_positive_relevance_has_no_mass():
    assert relevance_mass(-RELEVANCE.abs(), TRUTH).tolist() == [0, 0]
    assert intersection_over_union(-RELEVANCE.abs(), TRUTH).tolist() == [0, 0]


@pytest.mark.parametrize(
    "score",
    [top_k_hit, reciprocal_rank, average_precision, positive_share, relevance_mass, intersection_over_union],
)
def test_bad_input_is_named(score):
    with pytest.raises(ValueError, match=r"truth has shape \(2, 3\)"):
        score(RELEVANCE, TRUTH[:, :3])
    with pytest.raises(ValueError, match="relevance has 1 NaN"):
        score(RELEVANCE.clone().index_put_((torch.tensor(0), torch.tensor(0)), torch.tensor(torch.nan)), TRUTH)
    with pytest.raises(ValueError, match="no true feature in row 1"):
        score(RELEVANCE, torch.tensor([[True] * 4, [False] * 4]))
    with pytest.raises(ValueError, match=r"relevance has shape \(4,\)"):
        score(RELEVANCE[0], TRUTH[0])


def test_k_out_of_range():
    with pytest.raises(ValueError, match="k=5"):
        top_k_hit(RELEVANCE, TRUTH, k=5)
