"""Bottlenecks of text vectors: the Gram identity, whitening, edits; the bank's filter; components searched by text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from shared.concepts import ComponentIndex, ConceptBottleneck, filter_concepts

G = torch.Generator().manual_seed(0)
BANK, NAMES, F = (torch.randn(n, 6, generator=G) for n in (20, 4, 9))
Z, U = normalize(BANK, dim=1), normalize(NAMES, dim=1)


def test_logits_have_the_gram_matrix_in_between():
    bottleneck = ConceptBottleneck(BANK, NAMES)
    want = np.einsum("nd,md,me,ke->nk", F.double(), Z.double(), Z.double(), U.double())
    assert np.allclose(bottleneck.logits(F), want, atol=1e-4)
    assert np.allclose(bottleneck.activations(F), F @ Z.T, atol=1e-5)


def test_whitening_keeps_the_prediction():
    torch.testing.assert_close(ConceptBottleneck(BANK, NAMES, whiten=True).logits(F), F @ U.T, atol=1e-4, rtol=1e-3)
    few = ConceptBottleneck(BANK[:3], NAMES, whiten=True).logits(F)  # what three concepts span
    span = Z[:3].T @ torch.linalg.pinv(Z[:3].T)
    torch.testing.assert_close(few, F @ span @ U.T, atol=1e-4, rtol=1e-3)


def test_contributions_add_up_and_edits_take_them_away():
    bottleneck, target = ConceptBottleneck(BANK, NAMES), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0])
    parts = bottleneck.contributions(F, target)
    scores = bottleneck.logits(F).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(parts.sum(1), scores, atol=1e-4, rtol=1e-4)
    less = bottleneck.logits(F, without=[3, 7]).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(less, scores - parts[:, [3, 7]].sum(1), atol=1e-4, rtol=1e-4)


def test_a_concept_twice_counts_twice():
    once, twice = (ConceptBottleneck(bank, NAMES).logits(F) for bank in (BANK, torch.cat([BANK, BANK[:1]])))
    torch.testing.assert_close(twice - once, (F @ Z[:1].T) * (Z[:1] @ U.T), atol=1e-4, rtol=1e-4)


def test_bad_banks():
    with pytest.raises(ValueError, match="concepts is empty"):
        ConceptBottleneck(BANK[:0], NAMES)
    with pytest.raises(ValueError, match="classes has rows of length zero"):
        ConceptBottleneck(BANK, NAMES * 0)
    bottleneck = ConceptBottleneck(BANK, NAMES)
    with pytest.raises(ValueError, match="without"):
        bottleneck.logits(F, without=[20])
    with pytest.raises(ValueError, match="target"):
        bottleneck.contributions(F, torch.full((9,), 4))


def test_the_filter_leaves_no_word_of_a_name():
    words = ["Foxes", "fox", "class", "glass", "glasses", "berry", "wild", "wild boar", "orange-red", "crimson"]
    assert filter_concepts(words, ["red fox", "wine glass", "wild boars"]) == ["class", "berry", "crimson"]


def test_the_index_finds_what_a_full_sort_finds():
    vectors = torch.randn(500, 6, generator=G)
    vectors[[7, 90]] = 0
    index = ComponentIndex(vectors)
    cosines, rows = index.query(F, top=5)
    every = (normalize(F, dim=1) @ normalize(vectors, dim=1).T).index_fill(1, torch.tensor([7, 90]), -2)
    assert torch.equal(rows, every.argsort(1, descending=True)[:, :5])
    torch.testing.assert_close(cosines, every.gather(1, rows))
    assert index.silent.tolist() == [7, 90]
    with pytest.raises(ValueError, match="top=499"):
        index.query(F, top=499)
    with pytest.raises(ValueError, match="zeros only"):
        ComponentIndex(vectors * 0)
