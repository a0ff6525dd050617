"""Correlations, AUROC and average precision: against scipy and scikit-learn, slow definitions, and degenerate input."""

import numpy as np
import pytest
import torch
from scipy import stats as peer
from sklearn.metrics import average_precision_score, roc_auc_score

from shared.stats import auroc, average_precision, pearson, rank_correlation

rng = np.random.default_rng


def values(tied: bool, *shape: int) -> np.ndarray:
    found = rng(0).normal(size=shape)
    return found.round(0) if tied else found


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (pearson, peer.pearsonr),
        (rank_correlation, peer.spearmanr),
        (lambda a, b: rank_correlation(a, b, kind="kendall"), peer.kendalltau),
    ],
)
def test_correlations_are_scipys(ours, theirs, tied):
    a, b = values(tied, 2, 6, 30)
    want = [theirs(x, y).statistic for x, y in zip(a, b)]
    assert ours(a, b) == pytest.approx(want, abs=1e-12)
    of_tensors = ours(torch.tensor(a), torch.tensor(b))
    assert isinstance(of_tensors, torch.Tensor)
    assert of_tensors.tolist() == pytest.approx(want, abs=1e-12)
    assert ours(a[0].tolist(), b[0].tolist()) == pytest.approx(want[0], abs=1e-12)


@pytest.mark.parametrize("kind", ["pearson", "spearman", "kendall"])
def test_a_constant_row_has_no_correlation_and_leaves_the_others_alone(kind):
    def ours(a, b):
        return pearson(a, b) if kind == "pearson" else rank_correlation(a, b, kind=kind)

    a, b = np.array([[0.1] * 7, np.arange(7)]), np.array([np.arange(7), np.arange(7) ** 3])
    found = ours(a, b)
    assert np.isnan(found[0])
    assert np.isnan(ours(b, a)[0])
    assert found[1] > 0.9
    with pytest.warns(peer.ConstantInputWarning):
        theirs = peer.spearmanr(a[0], b[0]).statistic
    assert np.isnan(theirs)


def test_pearson_of_huge_and_tiny_numbers():
    a, b = values(False, 2, 20)
    want = peer.pearsonr(a, b).statistic
    assert pearson(a * 1e200, b * 1e-200) == pytest.approx(want, abs=1e-12)
    assert pearson(a + 1e6, b) == pytest.approx(want, abs=1e-8)


def test_correlations_take_any_axes_and_whole_numbers():
    a, b = values(True, 2, 3, 4, 9).astype(int)
    assert rank_correlation(a, b).shape == (3, 4)
    assert rank_correlation(a, b)[2, 1] == pytest.approx(peer.spearmanr(a[2, 1], b[2, 1]).statistic)


@pytest.mark.parametrize("tied", [False, True])
def test_auroc_and_average_precision_are_scikit_learns(tied):
    scores, labels = values(tied, 40, 5), rng(1).integers(2, size=(40, 5))
    columns = list(zip(scores.T, labels.T))
    assert auroc(scores, labels) == pytest.approx([roc_auc_score(y, s) for s, y in columns], abs=1e-12)
    want = [average_precision_score(y, s) for s, y in columns]
    assert average_precision(scores, labels) == pytest.approx(want, abs=1e-12)
    one = average_precision(torch.tensor(scores[:, 0]), torch.tensor(labels[:, 0]).bool())
    assert one.shape == ()
    assert one.item() == pytest.approx(want[0], abs=1e-12)


def test_auroc_is_the_share_of_pairs_in_order():
    scores, labels = values(True, 30), rng(1).integers(2, size=30)
    pairs = [np.sign(p - n) / 2 + 0.5 for p in scores[labels == 1] for n in scores[labels == 0]]
    assert auroc(scores, labels) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_average_precision_by_its_definition():
    scores, labels = values(True, 30), rng(1).integers(2, size=30)
    each = [labels[scores >= s].mean() for s in scores[labels == 1]]
    assert average_precision(scores, labels) == pytest.approx(np.mean(each), abs=1e-12)


def test_columns_of_one_class():
    scores = values(False, 6, 3)
    labels = np.array([[0, 1, 1]] * 5 + [[0, 1, 0]])
    assert np.isnan(auroc(scores, labels)).tolist() == [True, True, False]
    found = average_precision(scores, labels)
    assert np.isnan(found).tolist() == [True, False, False]
    assert found[1] == 1


def test_scores_of_no_order_are_at_chance():
    labels = np.array([0, 1, 1, 0])
    assert auroc(np.zeros(4), labels) == 0.5
    assert average_precision(np.zeros(4), labels) == 0.5


def test_no_graph_is_kept():
    scores = torch.rand(6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert not auroc(scores, torch.tensor([0, 1, 0, 1, 1, 0])).requires_grad


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: rank_correlation(np.ones(3), np.ones(4)), r"a has shape \(3,\) and b \(4,\)"),
        (lambda: rank_correlation(np.ones(3), np.ones(3), kind="pearson"), "spearman, kendall"),
        (lambda: pearson(1.0, 2.0), r"expected \(..., n\)"),
        (lambda: auroc(np.ones(3), np.array([0, 1, 2])), "labels must be 0 or 1"),
        (lambda: auroc(np.ones((3, 2)), np.array([0, 1, 1])), "labels has shape"),
        (lambda: average_precision(np.ones((3, 2, 1)), np.ones((3, 2, 1))), "scores has shape"),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
