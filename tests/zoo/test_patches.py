"""The head that aligns CLIP's patches with text: the shipped one is what its card says, its recipe deterministic."""

import pytest
import torch
from torch.nn.functional import normalize

from shared import vision, zoo
from shared.zoo import recipes

recipe = recipes.module("clip-shapes-patches")
NAME = recipe.NAME


@pytest.fixture(scope="module")
def clip():
    return zoo.load_model("clip-shapes")


def test_the_shipped_head_does_what_the_card_says(clip):
    measured = recipe.measure(zoo.load_model(NAME).model, clip)
    assert measured == {test["what"]: pytest.approx(test["measured"], abs=0.005) for test in zoo.describe(NAME).tested}


def test_without_the_head_patches_are_nowhere_near_their_words(clip):
    class Tower(torch.nn.Module):
        def forward(self, patches):
            return clip.model.visual_projection(clip.model.vision_model.post_layernorm(patches))

    measured = recipe.measure(Tower(), clip)
    assert all(value < zoo.describe(NAME).measured(what) / 2 for what, value in measured.items())


def test_a_little_training_is_deterministic_and_helps(clip, tmp_path):
    shown = recipe.world(300, 1)
    states = vision.hidden_patches(clip.model, recipe.prepare(shown.images)).detach()
    text = [recipe.embed(clip, recipe.phrases(shown, 1))]
    one, two = (recipe.train(states, text, steps=40) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    untrained = recipe.train(states, text, steps=1)
    with torch.no_grad():
        losses = [recipe.contrast(h(states), *text[0], torch.tensor(20.0)) for h in (one, untrained)]
    assert losses[0] < losses[1] - 0.5
    recipe.write_files(one, tmp_path / "head")
    again = zoo.load_model(str(tmp_path / "head")).model
    assert torch.equal(again(states), one(states))


def test_phrases_tell_of_one_thing_in_the_image(clip):
    shown = recipe.world(400, 2)
    said = recipe.phrases(shown, 3)
    behind = [text.endswith("background") for text in said]
    assert 0.1 < sum(behind) / len(said) < 0.3
    shapes = shown.names("shape")
    for i, text in enumerate(said):
        there = {shapes[s] for s, on in zip(shown.factors["shape"][i], shown.factors["present"][i]) if on}
        assert behind[i] or text.split(" ", 1)[1].replace("star fish", "starfish").split()[-1] in there


def test_the_loss_by_its_definition():
    generator = torch.Generator().manual_seed(0)
    patches, text = (
        torch.randn(4, 2, 3, 5, generator=generator),
        normalize(torch.randn(4, 5, generator=generator), dim=1),
    )
    number = torch.tensor([0, 1, 0, 2])
    logits = torch.zeros(4, 4)
    for i in range(4):
        for j in range(4):
            unit = normalize(patches[i].reshape(6, 5), dim=1)
            weight = (recipe.SHARPNESS * unit @ text[j]).softmax(0)
            logits[i, j] = 7 * torch.cosine_similarity(weight @ unit, text[j], dim=0)
    target = torch.eye(4)
    target[0, 2] = target[2, 0] = 1
    target /= target.sum(1, keepdim=True)
    want = -((target * logits.log_softmax(1)).sum(1).mean() + (target * logits.T.log_softmax(1)).sum(1).mean()) / 2
    assert float(recipe.contrast(patches, text, number, torch.tensor(7.0))) == pytest.approx(float(want), abs=1e-5)
