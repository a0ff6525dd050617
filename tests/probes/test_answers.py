"""Thresholds from benign answers, AUROC within groups, labels turned round group by group."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from shared import probes


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.5, 1.0])
def test_the_threshold_lets_through_no_more_than_its_share(share):
    scores = torch.randn(157, generator=torch.Generator().manual_seed(0))
    threshold = probes.flag_threshold(scores, false_positives=share)
    assert float((scores > threshold).double().mean()) <= share
    lower = scores[scores < threshold]
    if len(lower):  # the next lower score would let too many through
        assert float((scores > lower.max()).double().mean()) > share
    with pytest.raises(ValueError, match="benign is empty"):
        probes.flag_threshold(torch.zeros(0))


def test_auroc_within_groups_is_scikit_learns():
    rng = np.random.default_rng(0)
    scores, y, groups = rng.normal(size=60).round(1), rng.integers(2, size=60), rng.integers(5, size=60) * 3
    found = probes.group_auroc(*map(torch.from_numpy, (scores, y, groups)))
    expected = [roc_auc_score(y[groups == g], scores[groups == g]) for g in np.unique(groups)]
    np.testing.assert_allclose(found, expected)


def test_flipping_turns_half_of_the_groups_as_wholes():
    y, groups = torch.arange(60) % 2, torch.arange(60) // 6
    flipped = probes.flip_groups(y, groups, generator=torch.Generator().manual_seed(1))
    turned = (flipped != y).reshape(10, 6)
    assert turned.all(1).sum() == 5
    assert (turned.all(1) | ~turned.any(1)).all()
    assert flipped.sum() == y.sum()
    assert flipped.dtype == y.dtype
