"""Splits of scores against the scores themselves, and the parts against their definition."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import interpolate, normalize

from shared.concepts import class_scores, max_pool, probe_contributions, segment_by_text, split_scores
from tests.concepts.cases import codes, dictionary, rng

SAE = dictionary()
CODES = codes(n=60).view(3, 4, 5, 12)
TEXT = normalize(torch.randn(4, 8, generator=rng(7)), dim=1)


def split():
    return split_scores(CODES, SAE.W_dec, SAE.b_dec, TEXT)


def test_the_parts_sum_to_the_cosines():
    decoded = SAE.decode(CODES)
    direct = normalize(decoded, dim=-1) @ TEXT.T
    assert (split().scores() - direct).abs().max() < 1e-5
    for c in range(4):
        bias = (SAE.b_dec @ TEXT[c]) / decoded.norm(dim=-1)
        assert (split().of_class(c).sum(-1) + bias - direct[..., c]).abs().max() < 1e-5


def test_a_part_by_its_definition():
    place = CODES[1, 2, 3]
    decoded = place @ SAE.W_dec + SAE.b_dec
    for i in range(12):
        want = place[i] * (SAE.W_dec[i] @ TEXT[2]) / decoded.norm()
        assert float(split().of_class(2)[1, 2, 3, i]) == pytest.approx(float(want), abs=1e-6)


def test_segments_sum_over_the_places_of_a_class():
    labels = split().scores().argmax(-1)
    labels[0, 0, 0] = -1
    found = split().of_segments(labels)
    assert found.shape == (4, 13)
    for c in range(4):
        there = labels == c
        assert torch.allclose(found[c, :-1], split().of_class(c)[there].sum(0), atol=1e-5)
        assert float(found[c].sum()) == pytest.approx(float(split().scores()[..., c][there].sum()), abs=1e-4)


def test_scores_are_a_softmax_of_cosines_whatever_the_length():
    features = torch.randn(2, 3, 3, 8, generator=rng(8))
    found = class_scores(features, TEXT)
    one = torch.exp(100 * torch.cosine_similarity(features[1, 2, 0][None], TEXT))
    assert torch.allclose(found[1, 2, 0], one / one.sum(), atol=1e-5)
    assert torch.allclose(class_scores(5 * features, TEXT), found, atol=1e-5)


def test_segmentation_stretches_scores_to_pixels():
    features = torch.randn(2, 3, 4, 8, generator=rng(9))
    found = segment_by_text(features, TEXT, (12, 16))
    scores = class_scores(features, TEXT).permute(0, 3, 1, 2)
    assert torch.equal(found, interpolate(scores, (12, 16), mode="bilinear", align_corners=False).argmax(1))
    assert torch.equal(segment_by_text(features, TEXT, (3, 4)), class_scores(features, TEXT).argmax(-1))


def test_the_largest_activation_and_its_place():
    values, where = max_pool(CODES)
    assert torch.equal(values, CODES.amax((1, 2)))
    assert torch.equal(CODES.flatten(1, 2).gather(1, where[:, None])[:, 0], values)


def test_a_probes_logit_is_the_sum_of_contributions():
    pooled = max_pool(codes(n=1200, seed=3, dtype=torch.float64).view(60, 4, 5, 12))[0]
    probe = LogisticRegression(max_iter=500).fit(pooled.numpy(), (torch.arange(60) % 3).numpy())
    parts = probe_contributions(pooled, torch.from_numpy(probe.coef_))
    assert parts.shape == (60, 3, 12)
    logits = parts.sum(-1) + torch.from_numpy(probe.intercept_)
    assert torch.allclose(logits, torch.from_numpy(probe.decision_function(pooled.numpy())), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_scores(torch.ones(2, 7), TEXT), r"features has shape \(2, 7\)"),
        (lambda: class_scores(torch.ones(2, 8), TEXT[:0]), "text is empty"),
        (lambda: class_scores(torch.ones(2, 8), 3 * TEXT), "text has rows of length 3 to 3"),
        (lambda: class_scores(torch.ones(2, 8), TEXT, temperature=-1), "temperature=-1 is out of range"),
        (lambda: segment_by_text(torch.ones(2, 9, 8), TEXT, (6, 6)), r"features has shape \(2, 9, 8\)"),
        (lambda: split_scores(CODES[..., :5], SAE.W_dec, SAE.b_dec, TEXT), "codes has shape"),
        (lambda: split_scores(CODES, SAE.W_dec, SAE.b_dec, TEXT[:, :5]), "text has rows of length"),
        (lambda: split_scores(CODES, SAE.W_dec[:, :5], SAE.b_dec, TEXT), "W_dec has shape"),
        (lambda: split_scores(CODES, SAE.W_dec, SAE.b_dec[:5], TEXT), "b_dec has shape"),
        (lambda: split().of_class(4), "number=4 is out of range"),
        (lambda: split().of_segments(torch.zeros(3, 4)), r"labels has shape \(3, 4\)"),
        (lambda: max_pool(CODES[0]), "codes has shape"),
        (lambda: probe_contributions(torch.ones(2, 12), torch.ones(3, 11)), "weight has shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
