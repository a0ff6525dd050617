"""Scores of outliers, each beside its formula or a library's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors

from shared.metrics import energy, mahalanobis, max_softmax, neighbour_distance
from shared.stats import auroc

G = torch.Generator().manual_seed(0)
TRAIN, ASKED = torch.randn(60, 4, generator=G), torch.randn(9, 4, generator=G)
LABELS = torch.arange(60) % 3


def test_scores_of_logits():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    assert torch.allclose(max_softmax(logits), torch.tensor([1 - np.e**2 / (np.e**2 + 1), 0.5]).double())
    assert torch.allclose(energy(logits)[1], -torch.tensor(2.0).log().double())
    assert torch.allclose(energy(logits, temperature=1e-3)[0], torch.tensor(-2.0).double(), atol=1e-3)
    assert torch.allclose(energy(logits + 3), energy(logits) - 3)
    assert torch.allclose(max_softmax(logits + 3), max_softmax(logits))
    with pytest.raises(ValueError, match="temperature"):
        energy(logits, temperature=0.0)


def test_mahalanobis_is_scikit_learns_within_classes():
    centred = TRAIN.clone()
    means = torch.stack([TRAIN[LABELS == k].mean(0) for k in range(3)])
    centred -= means[LABELS]
    peer = EmpiricalCovariance(assume_centered=True).fit(centred)
    want = np.min([peer.mahalanobis(ASKED - m) for m in means], axis=0)
    assert np.allclose(mahalanobis(TRAIN, LABELS, ASKED, shrinkage=0.0), want, rtol=1e-4)
    named = mahalanobis(TRAIN, LABELS * 7 - 3, ASKED, shrinkage=0.0)  # labels are names only
    assert np.allclose(named, want, rtol=1e-4)
    with pytest.raises(ValueError, match=r"reference .* shrinkage"):
        mahalanobis(torch.ones(6, 2), torch.zeros(6).long(), torch.ones(1, 2), shrinkage=0.0)


@pytest.mark.parametrize("normalise", [True, False])
def test_neighbours_are_scikit_learns(normalise):
    a, b = ((torch.nn.functional.normalize(t, dim=1) if normalise else t) for t in (TRAIN, ASKED))
    distance, _ = NearestNeighbors(n_neighbors=5).fit(a.numpy()).kneighbors(b.numpy())
    assert np.allclose(neighbour_distance(TRAIN, ASKED, k=5, normalise=normalise), distance[:, 4], atol=1e-5)
    with pytest.raises(ValueError, match="k=61"):
        neighbour_distance(TRAIN, ASKED, k=61)


def test_more_of_the_same_is_no_outlier_and_far_away_is():
    same, far = torch.randn(400, 4, generator=G), torch.randn(400, 4, generator=G) + 9
    for score in (
        lambda x: mahalanobis(TRAIN, LABELS, x),
        lambda x: neighbour_distance(TRAIN, x, k=5, normalise=False),
    ):
        truth = np.repeat([0, 1], 200)
        assert abs(auroc(score(same).numpy(), truth) - 0.5) < 0.1
        assert auroc(score(torch.cat([same[:200], far[:200]])).numpy(), truth) == 1
