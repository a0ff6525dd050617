"""The autoencoder of the small shapes world does what its card says; its recipe is deterministic."""

import pytest
import torch

from shared import worlds, zoo
from shared.zoo import recipes

recipe = recipes.module("autoencoder-shapes")


@pytest.fixture(scope="module")
def model():
    return zoo.load_model(recipe.NAME).model


def test_it_does_what_the_card_says(model):
    measured = recipe.measure(model)
    assert measured == {t["what"]: pytest.approx(t["measured"], abs=0.01) for t in zoo.describe(recipe.NAME).tested}
    assert zoo.load_model(recipe.NAME).info.classes == list(worlds.IMAGE_CONCEPTS)


@torch.no_grad()
def test_another_concepts_shift_does_not_insert(model):
    before, _, added = recipe.draw_pairs(300, 61)
    z = model.encode(before)
    right, wrong = (model.judge(model.decode(z + model.shifts[c])) > 0 for c in (added, (added + 1) % 8))
    share = [seen.gather(1, added[:, None]).double().mean() for seen in (right, wrong)]
    assert share[0] > share[1] + 0.4


def test_pairs_differ_in_one_concept():
    before, after, added = recipe.draw_pairs(50, 1)
    assert before.shape == after.shape == (50, 3, 32, 32)
    assert (before != after).flatten(1).any(1).all()
    assert len(added.unique()) == 8


def test_a_little_training_is_deterministic_and_helps():
    one, two = (recipe.train_autoencoder(steps=12, pairs=128) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    x = recipe.draw_pairs(64, 3)[0]
    error = [float((recipe.train_autoencoder(steps=n, pairs=128)(x) - x).detach().abs().mean()) for n in (2, 12)]
    assert error[1] < error[0]
