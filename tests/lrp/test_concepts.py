"""Concept relevance (CRP): conditions, starts at hidden units, reference samples, crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from shared.hooks import capture
from shared.lrp import (
    Composite,
    EpsilonPlus,
    EpsilonPlusFlat,
    ReferenceBank,
    attribute,
    channel_relevance,
    crop_to_relevance,
    reference_banks,
)
from tests.lrp.test_peers import EPS, golden, load
from tests.lrp.test_peers import conv_net as golden_net


class Parallel(nn.Module):
    """The hand network of zennit-crp's own test: two linear layers side by side, concatenated, and a read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2, self.out = (nn.Linear(*size, bias=False) for size in ((2, 2), (2, 2), (4, 1)))
        weights = ([[1, 2], [0, 1]], [[2, 3], [0, 0]], [[1, 4, 5, 0]])
        for layer, weight in zip((self.layer1, self.layer2, self.out), weights):
            layer.weight.data = torch.tensor(weight, dtype=torch.float64)

    def forward(self, x):
        return self.out(torch.cat([self.layer1(x), self.layer2(x)], 1))


def test_the_hand_network_of_the_authors():
    model, x = Parallel().eval(), torch.tensor([[-1.0, 1.0]], dtype=torch.float64)
    options = dict(composite=EpsilonPlus(), record=["layer1", "layer2"])

    def expect(conditions, pixels, first, second):
        result = attribute(model, x, 0, conditions=conditions, **options)
        found = (result.relevance, result.latent["layer1"], result.latent["layer2"])
        for got, want in zip(found, (pixels, first, second)):
            assert torch.allclose(got, torch.tensor([want], dtype=torch.float64), atol=1e-4)

    expect(None, (-11, 21), (1, 4), (5, 0))
    expect({"layer1": [0], "layer2": []}, (-1, 2), (1, 0), (0, 0))  # the authors' exclude_parallel
    expect({"layer1": [0], "layer2": [0]}, (-11, 17), (1, 0), (5, 0))


def test_channels_add_up_and_empty_and_full_lists_are_nothing_and_everything(conv_net, images):
    whole = attribute(conv_net, images, 1, composite=EpsilonPlus()).relevance
    single = attribute(conv_net, images, 1, composite=EpsilonPlus(), conditions=[{"1": c} for c in range(8)]).relevance
    assert torch.allclose(single.sum(0), whole, atol=1e-12)
    parts = attribute(conv_net, images, 1, composite=EpsilonPlus(), conditions=[{"1": []}, {"1": list(range(8))}])
    assert parts.relevance[0].abs().max() == 0
    assert torch.equal(parts.relevance[1], whole)


def test_masks_of_a_batch_stay_with_their_rows(conv_net, images):
    turned = torch.tensor([2, 0, 1])
    options = dict(composite=EpsilonPlus(), conditions={"1": [2, 5]})
    there = attribute(conv_net, images[turned], torch.tensor([1, 3, 0]), **options).relevance
    assert torch.allclose(there, attribute(conv_net, images, torch.tensor([3, 0, 1]), **options).relevance[turned])


def test_agreement_with_zennit_crp():
    """Heat maps of five conditions and both starts (golden arrays: tests/golden/make_crp.py)."""
    arrays = golden("lrp_zennit_crp.npz")
    rules = EpsilonPlusFlat(epsilon=EPS)
    model, x = load(golden_net(), golden("lrp_zennit_conv.npz")), arrays["x"].double()
    conditions = [{"1": arrays[f"first{n}"].tolist(), "4": arrays[f"second{n}"].tolist()} for n in range(5)]
    ours = attribute(model, x, 1, composite=rules, conditions=conditions, record="4")
    for n in range(5):
        assert (ours.pixels[n] - arrays[f"heatmap{n}"]).abs().max() < 1e-6 * arrays[f"heatmap{n}"].abs().max()
    whole = attribute(model, x, 1, composite=rules, record="4")
    assert torch.allclose(channel_relevance(whole.latent["4"]), arrays["channels"].double(), atol=1e-6)
    started = attribute(model, x, 3, composite=rules, start_layer="4")
    assert (started.pixels - arrays["started"]).abs().max() < 1e-6 * arrays["started"].abs().max()
    seeded = attribute(model, x, 3, composite=Composite([]), start_layer="4", init="coefficient")
    assert torch.allclose(seeded.relevance, x * arrays["gradient"])


def test_the_relevance_of_a_unit_is_what_flows_from_it(conv_net, images):
    """With LRP-0 and no bias behind it, a unit's heat map adds up to its activation; weights act as seeds."""
    for module in conv_net.modules():
        if getattr(module, "bias", None) is not None:
            module.bias.data.zero_()
    with capture(conv_net, "4") as seen:
        conv_net(images)
    result = attribute(conv_net, images, 3, composite=Composite([]), start_layer="4", record=["1"])
    unit = seen["4"][:, 3]
    assert torch.equal(result.output, seen["4"])
    assert unit.max() > 0
    assert torch.allclose(result.relevance.flatten(1).sum(1), unit.flatten(1).sum(1))
    assert torch.allclose(result.latent["1"].flatten(1).sum(1), unit.flatten(1).sum(1))
    squared = attribute(conv_net, images, 3, composite=Composite([]), start_layer="4", init="coefficient")
    assert torch.allclose(squared.relevance.flatten(1).sum(1), (unit**2).flatten(1).sum(1))
    one = attribute(conv_net, images[:1], 3, composite=Composite([]), start_layer="4", init="one")
    assert torch.allclose(one.relevance.sum(), torch.tensor(1.0, dtype=torch.float64))
    weights = torch.zeros_like(seen["4"])
    weights[:, 3] = 1
    by_weights = attribute(conv_net, images, weights, composite=Composite([]), start_layer="4", batch_size=2)
    assert torch.allclose(by_weights.relevance, result.relevance)
    by_call = attribute(conv_net, images, lambda a: (a > 0) * weights, composite=Composite([]), start_layer="4")
    assert torch.allclose(by_call.relevance, result.relevance)


def test_a_start_is_like_cutting_the_network_there(residual_net, images):
    units = torch.tensor([0, 5, 7])
    ours = attribute(residual_net, images, units, composite=EpsilonPlus(), start_layer="relu", channel_axis=1)
    below = nn.ModuleDict(dict(residual_net.named_children()))

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = below

        def forward(self, x):
            x = self.parts["act"](self.parts["bn1"](self.parts["conv1"](x)))
            return self.parts["relu"](self.parts["bn2"](self.parts["conv2"](x)) + x).flatten(2).sum(2)

    assert torch.allclose(attribute(Cut().eval(), images, units, composite=EpsilonPlus()).relevance, ours.relevance)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(target=None), "target is None"),
        (dict(target=99), "target=99 is out of range"),
        (dict(target=torch.tensor([1, 2])), "target has 2 entries|LongTensor"),
        (dict(target=torch.rand(3, 16)), "target weights have shape"),
        (dict(target=1, init="softmax-contrast"), "init"),
        (dict(target=lambda a: a, init="coefficient"), "init"),
        (dict(target=1, position=0), "position"),
        (dict(target=1, output="logits"), "output"),
        (dict(target=1, start_layer="8"), "start_layer|name='8'"),
        (dict(target=1, conditions={"7": 0}), "conditions name layers"),
    ],
)
def test_a_start_that_makes_no_sense_is_refused(conv_net, images, options, message):
    options = {"start_layer": "4", **options}
    with pytest.raises(ValueError, match=message):
        attribute(conv_net, images, options.pop("target"), composite=EpsilonPlus(), **options)


def test_channel_relevance_sums_positions_and_normalises():
    relevance = torch.tensor([[[1.0, 2.0], [-1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert channel_relevance(relevance).tolist() == [[0.75, -0.25], [0, 0]]
    assert channel_relevance(relevance, normalise=False).tolist() == [[3, -1], [0, 0]]
    assert channel_relevance(relevance, channel_axis=-1).tolist() == [[0, 1], [0, 0]]
    assert channel_relevance(torch.full((1, 3000), 40.0).half(), normalise=False).dtype == torch.float32
    with pytest.raises(ValueError, match="channel_axis"):
        channel_relevance(relevance, channel_axis=0)


@pytest.mark.parametrize("reduce", ["max", "sum"])
def test_a_bank_filled_in_parts_is_the_sort_of_the_whole(reduce):
    values = torch.randn(50, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    values[:, 5] = -1
    bank = ReferenceBank(k=7, reduce=reduce)
    for part in values.split(16):
        bank.update(part)
    flat = values.flatten(2)
    score = flat.amax(2) if reduce == "max" else flat.sum(2)
    best = np.argsort(-score.numpy(), 0, kind="stable")[:7].T
    assert bank.rows[:5].tolist() == best[:5].tolist()
    assert bank.rows[5].tolist() == [-1] * 7
    assert torch.allclose(bank.values[:5], score.T.gather(1, torch.from_numpy(best))[:5])
    where = flat.argmax(2).T.gather(1, torch.from_numpy(best))[:5]
    assert torch.equal(bank.positions[:5], where)
    assert bank.seen == 50


def test_ties_go_to_the_first_and_rows_may_be_given():
    bank = ReferenceBank(k=3).update(torch.ones(2, 1), rows=torch.tensor([40, 7])).update(torch.ones(2, 1))
    assert bank.rows.tolist() == [[40, 7, 2]]
    short = ReferenceBank(k=3).update(torch.tensor([[0.0, 2.0]]))
    assert short.rows.tolist() == [[-1, -1, -1], [0, -1, -1]]
    assert short.positions.tolist()[1] == [0, -1, -1]
    with pytest.raises(ValueError, match="values has 3 channels"):
        short.update(torch.ones(1, 3))
    with pytest.raises(ValueError, match="rows"):
        short.update(torch.ones(1, 2), rows=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="values"):
        ReferenceBank().update(torch.tensor([[float("nan")]]))


def test_banks_of_a_model_in_one_pass(conv_net, images):
    many = torch.cat([images, -images, images.flip(3)])
    classes = torch.arange(9) % 5
    banks = reference_banks(conv_net, ["1", "4"], many, classes, k=2, composite=EpsilonPlus(), batch_size=4)
    latent = attribute(conv_net, many, classes, composite=EpsilonPlus(), record=["1", "4"]).latent
    for name, bank in banks.items():
        best = latent[name].flatten(2).amax(2).T.sort(1, descending=True)
        found = best.values[:, :2] > 0
        assert torch.allclose(bank.values[found], best.values[:, :2][found])
        assert torch.equal(bank.rows[found], best.indices[:, :2][found])
    fires = reference_banks(conv_net, "4", many, of="activation", k=1, batch_size=4)["4"]
    with capture(conv_net, "4") as seen:
        conv_net(many)
    assert torch.allclose(fires.values[:, 0], seen["4"].flatten(2).amax(2).amax(0).clamp(min=0))
    with pytest.raises(ValueError, match="target has 2 entries"):
        reference_banks(conv_net, "4", many, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="layers is empty"):
        reference_banks(conv_net, [], many)


def test_crops_hold_the_relevance():
    images, heat = torch.arange(2 * 8 * 8.0).view(2, 1, 8, 8), torch.zeros(2, 8, 8)
    heat[0, 2:4, 5] = torch.tensor([1.0, -0.5])
    heat[0, 7, 0] = 0.01
    first, second = crop_to_relevance(images, heat)
    assert torch.equal(first, images[0, :, 2:4, 5:6])
    assert torch.equal(second, images[1])
    assert torch.equal(crop_to_relevance(images, heat, min_size=4)[0], images[0, :, 1:5, 4:8])
    assert torch.equal(crop_to_relevance(images, heat, blur=3)[0], images[0, :, 1:5, 4:7])
    for bad in (dict(threshold=1.0), dict(blur=2), dict(min_size=9)):
        with pytest.raises(ValueError, match=next(iter(bad))):
            crop_to_relevance(images, heat, **bad)
