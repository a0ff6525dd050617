"""Classifiers queried with text: the loss from its equation, the rivals' closed forms, heads, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from shared.vision import TextUnlock, class_average, closed_form_map, head_features

G = torch.Generator().manual_seed(0)
NAMES = normalize(torch.randn(6, 12, generator=G), dim=1)
WEIGHT = torch.randn(6, 5, generator=G)
FEATURES = torch.randn(400, 5, generator=G)
ANSWERS = (2 * FEATURES @ WEIGHT.T).softmax(1)


def distribution(unlock: TextUnlock, features: torch.Tensor, names: torch.Tensor) -> torch.Tensor:
    return (unlock.transform(features) @ names.T / unlock.temperature_).softmax(1)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_names_get_the_classifiers_own_distribution(similarity):
    unlock = TextUnlock(similarity=similarity, hidden=64, epochs=60, dropout=0.0, lr=0.01).fit(FEATURES, ANSWERS, NAMES)
    mine = distribution(unlock, FEATURES, NAMES)
    assert (mine.argmax(1) == ANSWERS.argmax(1)).double().mean() > 0.95
    divergence = (ANSWERS * (ANSWERS / mine).log()).sum(1).mean()
    assert divergence < 0.1
    assert abs(unlock.divergence_ - divergence) < 0.05


def test_the_divergence_is_never_negative_and_chance_is_fixed():
    fit = lambda seed: TextUnlock(hidden=8, epochs=2, random_state=seed).fit(FEATURES, ANSWERS, NAMES)  # noqa: E731
    one, again, other = fit(0), fit(0), fit(1)
    assert one.divergence_ >= 0
    assert torch.equal(one.transform(FEATURES), again.transform(FEATURES))
    assert not torch.equal(one.transform(FEATURES), other.transform(FEATURES))
    assert torch.allclose(one.transform(FEATURES).norm(dim=1), torch.ones(400))


def test_classes_in_another_order_are_answered_in_that_order():
    order = torch.randperm(6, generator=G)
    fit = lambda rows: TextUnlock(hidden=None, epochs=5).fit(FEATURES, ANSWERS[:, rows], NAMES[rows])  # noqa: E731
    plain, moved = fit(torch.arange(6)), fit(order)
    torch.testing.assert_close(plain.transform(FEATURES), moved.transform(FEATURES), atol=1e-3, rtol=1e-3)


def test_names_of_two_classes_must_differ():
    with pytest.raises(ValueError, match=r"class_vectors has equal rows \(1 and 4\)"):
        TextUnlock(epochs=1).fit(FEATURES, ANSWERS, NAMES[[0, 1, 2, 3, 1, 5]])
    many = normalize(torch.randn(1030, 12, generator=G), dim=1)
    many[1028] = many[1026]
    with pytest.raises(ValueError, match=r"\(1026 and 1028\)"):
        TextUnlock(epochs=1).fit(FEATURES[:1], torch.full((1, 1030), 1 / 1030), many)


def test_the_average_is_conse():
    kept = ANSWERS.double().clone()
    for row in kept:
        row[row.argsort()[:-2]] = 0
    want = torch.stack([sum(p * name.double() for p, name in zip(row, NAMES)) for row in kept])
    found = class_average(ANSWERS, NAMES, top=2)
    torch.testing.assert_close(found.double(), normalize(want, dim=1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(class_average(torch.eye(6), 3 * NAMES), NAMES)


def test_the_closed_form_is_ridge_regression():
    from sklearn.linear_model import Ridge

    names, weight = NAMES - NAMES.mean(0), WEIGHT - WEIGHT.mean(0)
    want = Ridge(alpha=0.3, fit_intercept=False).fit(names.numpy(), weight.numpy()).coef_.T
    torch.testing.assert_close(closed_form_map(WEIGHT, NAMES, ridge=0.3), torch.from_numpy(want), atol=1e-5, rtol=1e-4)
    exact = closed_form_map(WEIGHT, NAMES, ridge=1e-9)
    scores = FEATURES @ exact.T @ NAMES.T
    assert (scores.argmax(1) == (FEATURES @ WEIGHT.T).argmax(1)).all()


class Vit(nn.Module):
    """Patches of 16 pixels and a head, and another linear layer before it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.inner, self.head = nn.Conv2d(3, 4, 16, 16), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(self.patches(x).mean((2, 3))))


def test_features_are_the_heads_input():
    model, images = Vit().eval(), torch.rand(5, 3, 32, 32, generator=G)
    features, logits = head_features(model, "head", images, batch_size=2)
    want = model.inner(model.patches(images).mean((2, 3)))
    torch.testing.assert_close(features, want.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits, model(images).detach(), atol=1e-5, rtol=1e-4)


def test_what_the_head_needs():
    model = Vit().eval()
    with pytest.raises(ValueError, match=r"images of \(3, 8, 8\) don't go through Vit"):
        head_features(model, "head", torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match="isn't the model's last layer"):
        head_features(model, "inner", torch.rand(2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"nn\.Linear"):
        head_features(model, "patches", torch.rand(2, 3, 16, 16))


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"targets": ANSWERS[:, :5]}, "targets has shape"),
        ({"targets": ANSWERS * 1.1}, "no distribution"),
        ({"targets": ANSWERS - 0.5}, "no distribution"),
        ({"class_vectors": NAMES * torch.tensor([0.0, 1, 1, 1, 1, 1])[:, None]}, "length zero"),
    ],
)
def test_what_is_refused(spoilt, message):
    given = {"features": FEATURES, "targets": ANSWERS, "class_vectors": NAMES} | spoilt
    with pytest.raises(ValueError, match=message):
        TextUnlock(epochs=1).fit(**given)


def test_not_fitted():
    with pytest.raises(ValueError, match="fit first"):
        TextUnlock().transform(FEATURES)
    with pytest.raises(ValueError, match="similarity='euclid'"):
        TextUnlock(similarity="euclid").fit(FEATURES, ANSWERS, NAMES)
