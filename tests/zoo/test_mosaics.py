"""Networks that recognise several images at once: their cards, and how mosaics are drawn."""

import pytest
import torch

from shared.nets import logits_of
from shared.zoo import describe, load_data, load_model
from shared.zoo.recipes import _mosaics


@pytest.mark.parametrize("name", ["resnet-fashion-mosaics", "vit-fashion-mosaics"])
def test_card_tells_the_truth(name):
    stated = describe(name).measured(_mosaics.MEASURED)
    assert _mosaics.share_named(name) == pytest.approx(stated, abs=0.005)
    assert stated > 0.7  # four classes out of ten would be named by chance at 0.4
    assert load_model(name).info.input_size == (1, 56, 56)


def test_mosaics_have_four_classes():
    y = load_data("fashion-mnist", split="test").y
    rows, classes = _mosaics.draw_mosaics(y, 50, 10, torch.Generator().manual_seed(0))
    assert torch.equal(y[rows], classes)
    assert all(len(set(four)) == 4 for four in classes.tolist())


def test_a_wider_transformer_starts_with_the_positions_of_the_single_image():
    model = load_model("vit-fashion").model
    grown = _mosaics.wider(model)
    old, new = (m.state_dict()["vit.embeddings.position_embeddings"] for m in (model, grown))
    assert torch.equal(new[:, 0], old[:, 0])
    assert torch.equal(new[:, 1:].unflatten(1, (14, 14))[:, 7:, :7], old[:, 1:].unflatten(1, (7, 7)))
    assert logits_of(grown, torch.zeros(1, 1, 56, 56)).shape == (1, 10)
