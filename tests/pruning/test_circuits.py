"""What serves one behaviour and not the rest: differences of scores, and a planted behaviour found and removed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from shared.hooks import capture
from shared.lrp import AttnLRP, Composite, answer, attribute, weight_relevance
from shared.pruning import contrastive_scores, keep_masks, masked, pruning_curve, pruning_rows, without_top


def scores(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"a": torch.randn(3, 4, generator=generator), "b": torch.randn(6, generator=generator)}


def test_the_difference_of_equal_scores_is_zero_and_swapping_turns_its_sign():
    one, other = scores(0), scores(1)
    assert all(not difference.any() for difference in contrastive_scores(one, one).values())
    there, back = contrastive_scores(one, other), contrastive_scores(other, one)
    assert all(torch.equal(there[name], -back[name]) for name in one)


@pytest.mark.parametrize("count", [0, 1, 5, 17, 18])
def test_the_highest_go_as_by_a_full_sort(count):
    masks = without_top(scores(0), count)
    slow = keep_masks(scores(0), count / 18, most=True)
    assert all(torch.equal(masks[name], slow[name]) for name in slow)
    assert sum(int((~mask).sum()) for mask in masks.values()) == count


def test_of_equal_scores_as_many_go_as_asked():
    masks = without_top({"a": torch.ones(4), "b": torch.ones(2, 3)}, 7)
    assert sum(int((~mask).sum()) for mask in masks.values()) == 7


def planted() -> nn.Module:
    """Two inputs, two hidden units each: unit 2 answers to the trigger (input 1) only, unit 0 to the general input."""
    net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False)).eval()
    net[0].weight.data = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    net[2].weight.data = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 3.0]])
    return net


def test_a_planted_behaviour_is_found_and_the_rest_stays():
    net = planted()
    general, trigger = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    assert net(general).argmax() == 0
    assert net(trigger).argmax() == 1
    found = {
        side: weight_relevance(net, ["0", "2"], [x], goal, composite=Composite([]), init="one")
        for side, x, goal in (("undesired", trigger, 1), ("general", general, 0))
    }
    masks = without_top(contrastive_scores(found["undesired"], found["general"]), 2)
    assert [(~mask).nonzero().tolist() for mask in masks.values()] == [[[2, 1]], [[1, 2]]]
    before = net(general)
    with masked(net, masks):
        assert torch.equal(net(general), before)
        assert net(trigger).argmax() == 0


def test_rows_of_a_curve_average_to_it():
    net = planted()
    x, y = torch.rand(5, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 1])
    importance, rates = {"0": torch.tensor([1.0, 3.0, 2.0])}, (0.0, 0.4, 1.0)
    rows = pruning_rows(net, importance, x, y, rates=rates, batch_size=2)
    assert rows.shape == (3, 5)
    assert np.array_equal(rows.mean(1), pruning_curve(net, importance, x, y, rates=rates))
    with torch.no_grad():
        assert np.array_equal(rows[0], (net(x).argmax(1) == y).numpy())


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 30}
    config = LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes)
    return LlamaForCausalLM(config).double().eval()


def test_weights_of_all_positions_are_the_sum_over_positions():
    model = llama()
    ids = torch.randint(30, (2, 5), generator=torch.Generator().manual_seed(0))
    name = "model.layers.0.mlp.down_proj"
    whole = weight_relevance(model, name, [ids], answer(ids[:, 1:]), composite=AttnLRP())[name]
    single = [
        weight_relevance(model, name, [ids], ids[:, at + 1], composite=AttnLRP(), position=at)[name] for at in range(4)
    ]
    assert torch.allclose(whole, sum(single), atol=1e-12)


def test_absolute_values_at_each_token():
    """`|w_kj| sum_t |x_tj| |c_tk|`, with c = R / z of the layer's output."""
    model, ids = llama(), torch.randint(30, (2, 5), generator=torch.Generator().manual_seed(0))
    name, goal = "model.layers.0.self_attn.k_proj", answer(ids[:, 1:])
    found = weight_relevance(model, name, [ids], goal, composite=AttnLRP(), reduce="token_abs")[name]
    relevance = attribute(model, ids, goal, composite=AttnLRP(), record=[name]).latent[name]
    layer = model.get_submodule(name)
    with capture(model, "model.layers.0.input_layernorm") as seen, torch.no_grad():
        model(input_ids=ids)
    x = seen["model.layers.0.input_layernorm"]
    c = relevance / layer(x)
    expected = layer.weight.abs() * torch.einsum("btk,btj->kj", c.abs(), x.abs()) / 2
    assert torch.allclose(found, expected, rtol=1e-6)
    parts = weight_relevance(model, name, [(row[None], answer(row[None, 1:])) for row in ids], reduce="token_abs")[name]
    assert torch.allclose(parts, found, rtol=1e-9)
    signed = weight_relevance(model, name, [ids], goal, composite=AttnLRP(), reduce="mean_abs")[name]
    assert (found >= signed - 1e-12).all()
    assert all(p.requires_grad for p in model.parameters())


def test_only_dense_layers_have_absolute_values_at_tokens():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)).eval()
    x = torch.rand(1, 1, 4, 4)
    with pytest.raises(ValueError, match="dense layers"):
        weight_relevance(net, "0", [x], 0, composite=Composite([]), reduce="token_abs")
    with pytest.raises(ValueError, match="batches is empty"):
        weight_relevance(net, "2", [], 0, composite=Composite([]), reduce="token_abs")
    dense = weight_relevance(net, "2.weight", [x], 0, composite=Composite([]), reduce="token_abs")["2.weight"]
    assert torch.allclose(
        dense, weight_relevance(net, "2.weight", [x], 0, composite=Composite([]), reduce="mean_abs")["2.weight"]
    )


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"a": torch.ones(2)}, "general must have the layers"),
        ({"a": torch.ones(3, 4), "b": torch.ones(5)}, r"general\['b'\] has shape"),
        ({"a": torch.full((3, 4), torch.nan), "b": torch.ones(6)}, r"general\['a'\]"),
        ({}, "general is empty"),
    ],
)
def test_bad_differences(spoilt, message):
    with pytest.raises(ValueError, match=message):
        contrastive_scores(scores(0), spoilt)


def test_bad_counts_and_scores():
    for count in (-1, 19):
        with pytest.raises(ValueError, match="count="):
            without_top(scores(0), count)
    with pytest.raises(ValueError, match="scores is empty"):
        without_top({}, 0)
    with pytest.raises(ValueError, match=r"scores\['a'\]"):
        without_top({"a": torch.tensor([torch.inf])}, 1)


def test_a_layer_that_runs_twice_takes_each_calls_own_input():
    """As two layers that hold the same weights, whose scores add up."""
    torch.manual_seed(0)
    shared, last = nn.Linear(4, 4).double(), nn.Linear(4, 2).double()
    once = nn.Sequential(shared, nn.Tanh(), shared, last).eval()
    apart = nn.Sequential(shared, nn.Tanh(), copy.deepcopy(shared), last).eval()
    x = torch.rand(3, 4, dtype=torch.float64)
    options = {"target": 0, "composite": Composite([]), "reduce": "token_abs"}
    found = weight_relevance(once, "0", [x], **options)["0"]
    each = weight_relevance(apart, ["0", "2"], [x], **options)
    assert torch.allclose(found, each["0"] + each["2"])
