"""`batch_size` changes nothing but the memory: the same numbers for any, with whatever has one entry per row."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.lrp import (
    CPLRP,
    AttnLRP,
    EpsilonPlusFlat,
    answer,
    attention_relevance,
    attribute,
    conservation_report,
    contrast,
    head_relevance,
    zero_mean,
)

SIZES = (1, 2, 3, 7)


def same(ours, whole):
    for name in ("output", "relevance", "gap", "seed"):
        assert torch.allclose(getattr(ours, name), getattr(whole, name), atol=1e-9), name
    assert ours.latent.keys() == whole.latent.keys()
    for name, latent in whole.latent.items():
        assert torch.allclose(ours.latent[name], latent, atol=1e-9)


@pytest.fixture
def many():
    return torch.randn(7, 3, 12, 12, dtype=torch.float64)


def targets():
    index = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    weights = torch.randn(7, 4, dtype=torch.float64)
    return {
        "none": None,
        "int": 2,
        "index": index,
        "weights": weights,
        "contrast": contrast(index, (index + 1) % 4),
        "zero mean": zero_mean(index),
        "callable": lambda logits: weights.roll(len(logits), 0) if len(logits) == 7 else None,  # wants all rows
        "list": [1, index, contrast(index, 3)],
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", targets())
def test_targets(kind, size, residual_net, many):
    target = targets()[kind]
    options = dict(composite=EpsilonPlusFlat(), record=["act", "conv2"])
    same(
        attribute(residual_net, many, target, batch_size=size, **options),
        attribute(residual_net, many, target, **options),
    )


@pytest.mark.parametrize("size", SIZES)
def test_conditions_with_a_mask_per_row(size, residual_net, many):
    per_row = torch.rand(7, 8, 1, 1) > 0.5
    conditions = [{"act": per_row}, {"conv2": [1, 2], "act": torch.rand(8, 1, 1) > 0.5}]
    options = dict(conditions=conditions, record="act")
    same(attribute(residual_net, many, 1, batch_size=size, **options), attribute(residual_net, many, 1, **options))


@pytest.mark.parametrize("size", [1, 2])
def test_tokens_masks_and_positions(size, make_llama, token_ids):
    model = make_llama().double()
    mask = torch.ones_like(token_ids)
    mask[1, -2:] = 0
    x = {"input_ids": token_ids, "attention_mask": mask}
    for position in (None, torch.tensor([6, 2, 3]), -1):
        options = dict(composite=AttnLRP(), position=position, record="model.layers.0")
        same(
            attribute(model, x, torch.tensor([3, 4, 5]), batch_size=size, **options),
            attribute(model, x, torch.tensor([3, 4, 5]), **options),
        )


def test_heads_and_the_balance_sheet(make_llama, token_ids):
    model = make_llama().double()
    for explain in (head_relevance, attention_relevance):
        for target in (torch.tensor([3, 4, 5]), [1, 2]):
            whole = explain(model, token_ids, target, composite=CPLRP())
            assert torch.allclose(explain(model, token_ids, target, composite=CPLRP(), batch_size=2), whole, atol=1e-9)
    whole = conservation_report(model, token_ids, 4, composite=CPLRP())
    parts = conservation_report(model, token_ids, 4, composite=CPLRP(), batch_size=2)
    assert (whole[["module", "kind"]] == parts[["module", "kind"]]).all(None)
    assert torch.allclose(torch.tensor(whole["share"]), torch.tensor(parts["share"]))


def test_the_other_tower_stays_whole():
    """As many texts as images: the texts are still all classes of every image."""
    from transformers import CLIPConfig, CLIPModel

    tower = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    text = dict(vocab_size=50, eos_token_id=49, bos_token_id=1, pad_token_id=0, **tower)
    config = CLIPConfig(text_config=text, vision_config=dict(image_size=16, patch_size=4, **tower), projection_dim=16)
    model = CLIPModel(config).double().eval()
    ids = torch.randint(2, 48, (3, 5)).index_fill(1, torch.tensor([4]), 49)
    x = {"pixel_values": torch.randn(3, 3, 16, 16, dtype=torch.float64), "input_ids": ids}
    same(attribute(model, x, 1, batch_size=2), attribute(model, x, 1))


def test_bad_batches_are_named(residual_net, many):
    with pytest.raises(ValueError, match="batch_size=0 is out of range"):
        attribute(residual_net, many, 1, batch_size=0)
    with pytest.raises(ValueError, match="target has 5 entries for a batch of 7"):
        attribute(residual_net, many, torch.zeros(5, dtype=torch.long), batch_size=2)


def test_conv1d_conditions_pick_channels_not_steps():
    model = nn.Sequential(nn.Conv1d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2)).double()
    x = torch.randn(2, 1, 8, dtype=torch.float64)
    result = attribute(model, x, 1, conditions={"0": [1]}, record="0")
    assert (result.latent["0"][:, [0, 2]] == 0).all()
    assert (result.latent["0"][:, 1] != 0).any()


def test_where_a_module_does_not_tell_the_axis_must_be_given(residual_net, many):
    with pytest.raises(ValueError, match="pass channel_axis"):
        attribute(residual_net, many, 1, conditions={"act": [2]})
    given = attribute(residual_net, many, 1, conditions={"act": [2]}, channel_axis=1).relevance
    mask = torch.zeros(8, 1, 1).index_fill(0, torch.tensor([2]), 1.0)
    assert torch.equal(given, attribute(residual_net, many, 1, conditions={"act": mask}).relevance)
    by_name = attribute(residual_net, many, 1, conditions={"act": [2]}, channel_axis={"act": 1}).relevance
    assert torch.equal(given, by_name)


class Doubled(nn.BatchNorm2d):
    """Gives another value than its class says."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_a_composite_that_changes_the_output_is_refused(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Doubled(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2)).double().eval()
    with pytest.raises(RuntimeError, match="output under the composite differs from its own by"):
        attribute(model, images, 0)


@pytest.mark.parametrize("composite", [AttnLRP(), CPLRP()], ids=["attnlrp", "cp"])
def test_an_answer_of_several_tokens_is_the_sum_of_its_tokens(composite, make_llama, token_ids):
    model = make_llama().double()
    tokens = token_ids[:, -3:]
    whole = attribute(model, token_ids, answer(tokens), composite=composite)
    singles = [
        attribute(model, token_ids, tokens[:, n], composite=composite, position=3 + n).relevance for n in range(3)
    ]
    assert torch.allclose(whole.relevance, sum(singles), atol=1e-6 * float(whole.relevance.abs().max()))
    assert (whole.tokens[:, -1] == 0).all()  # the last token is answered, not read
    parts = attribute(model, token_ids, answer(tokens), composite=composite, batch_size=2)
    assert torch.allclose(parts.relevance, whole.relevance, atol=1e-12)
    masked = tokens.clone()
    masked[:, 0] = -100
    fewer = attribute(model, token_ids, answer(masked), composite=composite)
    assert torch.allclose(fewer.relevance, singles[1] + singles[2], atol=1e-6 * float(whole.relevance.abs().max()))


def test_bad_answers(make_llama, token_ids):
    with pytest.raises(ValueError, match="must be a LongTensor"):
        answer(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="no token that counts"):
        answer(torch.tensor([[1, 2], [-100, -100]]))
    with pytest.raises(ValueError, match=r"answer has shape \(2, 2\)"):
        attribute(make_llama(), token_ids, answer(token_ids[:2, -2:]))
    with pytest.raises(ValueError, match="answer has 7 tokens; logits of shape"):
        attribute(make_llama(), token_ids, answer(token_ids))
