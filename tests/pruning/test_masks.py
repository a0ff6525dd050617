"""Masks: what goes at which rate, and a model that comes back exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from shared.nets import SmallResNet, SmallVGG
from shared.pruning import (
    curve_area,
    find_units,
    keep_masks,
    layer_shares,
    masked,
    prune_ranks,
    pruning_curve,
    shuffled_within,
    unit_sums,
)


def vgg() -> nn.Module:
    torch.manual_seed(0)
    return SmallVGG(1, 4, widths=(3, 5), side=8).eval()


def resnet() -> nn.Module:
    torch.manual_seed(0)
    net = SmallResNet(1, 4, widths=(4, 6)).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, 0.1, 1.0)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
    return net


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 12}
    return ViTForImageClassification(
        ViTConfig(image_size=8, patch_size=4, num_channels=1, num_labels=4, **sizes)
    ).eval()


def pictures(rows: int = 5) -> torch.Tensor:
    return torch.rand(rows, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def uniform(model: nn.Module, kind: str, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(count, generator=generator) for name, count in find_units(model, kind).items()}


SCORES = {"a": torch.tensor([[0.3, 0.1], [0.9, 0.2]]), "b": torch.tensor([0.5, 0.0])}


@pytest.mark.parametrize(
    ("scope", "kept"),
    [
        ("global", {"a": [[True, False], [True, False]], "b": [True, False]}),
        ("layer", {"a": [[True, False], [True, False]], "b": [True, False]}),
        ("row", {"a": [[True, False], [True, False]], "b": [True, False]}),
    ],
)
def test_half_goes(scope, kept):
    assert {name: mask.tolist() for name, mask in keep_masks(SCORES, 0.5, scope=scope).items()} == kept


def test_scopes_differ_where_they_should():
    scores = {"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "b": torch.tensor([[5.0, 6.0], [7.0, 8.0]])}
    assert not keep_masks(scores, 0.5)["a"].any()
    assert keep_masks(scores, 0.5, scope="layer")["a"].tolist() == [[False, False], [True, True]]
    assert keep_masks(scores, 0.5, scope="row")["a"].tolist() == [[False, True], [False, True]]
    assert keep_masks(scores, 0.5, most=True)["a"].all()


@pytest.mark.parametrize("scope", ["global", "layer", "row"])
def test_counts_are_floors_and_masks_are_nested(scope):
    scores = {"a": torch.randn(7, 10), "b": torch.randn(3, 10)}
    before = None
    for rate in [*np.linspace(0, 1, 11).round(2).tolist(), 0.29, 0.57]:
        masks = keep_masks(scores, rate, scope=scope)
        gone = sum(int((~mask).sum()) for mask in masks.values())
        assert gone == (10 if scope == "row" else 1) * math.floor(rate * (10 if scope == "row" else 100) + 1e-9) or (
            scope == "layer"
        )
        if before is not None and rate > before[0]:
            assert all(bool((masks[name] <= before[1][name]).all()) for name in masks)
        before = (rate, masks)


def test_of_equal_scores_the_earlier_go_first():
    assert keep_masks({"a": torch.zeros(4)}, 0.5)["a"].tolist() == [False, False, True, True]


def test_shuffling_keeps_each_layers_count():
    scores = {"a": torch.rand(20), "b": 3 * torch.rand(30)}
    null = shuffled_within(scores, generator=torch.Generator().manual_seed(0))
    for rate in (0.2, 0.5, 0.8):
        ours, theirs = keep_masks(scores, rate), keep_masks(null, rate)
        assert {n: int(m.sum()) for n, m in ours.items()} == {n: int(m.sum()) for n, m in theirs.items()}
    assert any(not torch.equal(keep_masks(scores, 0.5)[n], keep_masks(null, 0.5)[n]) for n in scores)


MODELS = [(vgg, "filter"), (vgg, "neuron"), (resnet, "filter"), (vit, "head"), (vit, "neuron"), (vit, "filter")]


@pytest.mark.parametrize(("make", "kind"), MODELS)
def test_the_model_comes_back_exactly(make, kind):
    model, x = make(), pictures()
    hooks = _hooks(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        before = _logits(model(x))
        scores = uniform(model, kind)
        with masked(model, keep_masks(scores, 0.0)):
            assert torch.equal(_logits(model(x)), before)  # rate 0, bit for bit
        with masked(model, keep_masks(scores, 0.5)):
            assert not torch.equal(_logits(model(x)), before)
        with pytest.raises(KeyError), masked(model, keep_masks(scores, 0.5)):
            raise KeyError
        assert torch.equal(_logits(model(x)), before)
    assert hooks == [
        (len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in m.__dict__) for m in model.modules()
    ]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def _hooks(model):
    return [(len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in m.__dict__) for m in model.modules()]


def _logits(out):
    return out if isinstance(out, torch.Tensor) else out.logits


def test_filters_go_as_if_their_parameters_were_zero():
    """The paper's action: the filter's weights and bias, and the weight and bias of the batch norm after it."""
    model, x = resnet(), pictures()
    masks = keep_masks(uniform(model, "filter"), 0.5)
    with masked(model, masks), torch.no_grad():
        ours = model(x)
    by_hand = resnet()
    modules = dict(by_hand.named_modules())
    with torch.no_grad():
        for name, mask in masks.items():
            norm = modules[name.removesuffix("conv") + "norm"]
            modules[name].weight[~mask] = 0
            norm.weight[~mask] = 0
            norm.bias[~mask] = 0
        torch.testing.assert_close(ours, by_hand(x))


def test_a_norm_that_does_not_follow_stays():
    """Registered right after the convolution, but fed with a sum: the other branch must live."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            return self.norm(self.conv(x) + x).flatten(1)

    model = Sum().eval()
    with masked(model, {"conv": torch.tensor([False, False])}), torch.no_grad():
        torch.testing.assert_close(model(pictures()), model.norm(pictures().expand(-1, 2, -1, -1)).flatten(1))


def test_a_head_goes_as_if_its_part_of_the_output_projection_were_zero():
    model, x = vit(), pictures()
    name = list(find_units(model, "head"))[1]
    with masked(model, {name: torch.tensor([True, False, True, False])}), torch.no_grad():
        ours = model(x).logits
    weight = dict(model.named_modules())[f"{name}.o_proj"].weight
    with torch.no_grad():
        weight[:, 2:4] = 0
        weight[:, 6:8] = 0
        torch.testing.assert_close(ours, model(x).logits, atol=1e-5, rtol=1e-5)


def test_weights_go_and_come_back():
    model, x = vgg(), pictures()
    name = list(find_units(model, "filter"))[1]
    weight = dict(model.named_modules())[name].weight
    storage, mask = weight.data_ptr(), torch.rand(weight.shape) > 0.5
    with masked(model, {name: mask}):
        assert not weight[~mask].any()
        assert bool((weight[mask] != 0).all())
        model(x)
    with masked(model, {f"{name}.weight": mask}):
        assert bool((weight[~mask] == 0).all())
    assert weight.data_ptr() == storage


def test_everything_pruned_leaves_biases():
    model = vgg()
    with masked(model, keep_masks(uniform(model, "filter"), 1.0)), torch.no_grad():
        out = model(pictures())
    assert bool((out == out[:1]).all())


def test_gradients_flow_through_what_is_kept():
    model = vgg()
    name = next(iter(find_units(model, "filter")))
    dict(model.named_modules())[name].bias.data.fill_(1.0)
    with masked(model, {name: torch.tensor([True, False, True])}):
        model(pictures()).square().sum().backward()
    grad = dict(model.named_modules())[name].weight.grad
    assert not grad[1].any()
    assert grad.any()


@pytest.mark.parametrize(("make", "kind"), MODELS)
def test_a_curve_is_its_rates_one_by_one(make, kind):
    model, x = make(), pictures(12)
    y = torch.arange(12) % 4
    scores, rates = uniform(model, kind), (0.0, 0.3, 0.6, 1.0)
    slow = []
    for rate in rates:
        with masked(model, keep_masks(scores, rate)), torch.no_grad():
            logits = _logits(model(x))
            slow.append((logits[:, [1, 2]].argmax(1) + 1 == y).double().mean().item())
    for batch_size in (5, 1000):
        np.testing.assert_allclose(
            pruning_curve(model, scores, x, y, rates=rates, classes=[1, 2], batch_size=batch_size), slow, atol=1e-9
        )


def test_a_curve_over_weights():
    model, x, y = vgg(), pictures(12), torch.arange(12) % 4
    name = list(find_units(model, "filter"))[1]
    scores = {name: dict(model.named_modules())[name].weight.detach().abs()}
    loss = lambda logits, target: nn.functional.cross_entropy(logits, target, reduction="none")  # noqa: E731
    curve = pruning_curve(model, scores, x, y, rates=(0.0, 0.5), scope="row", metric=loss)
    with torch.no_grad():
        assert curve[0] == pytest.approx(nn.functional.cross_entropy(model(x), y).item(), rel=1e-5)
    assert curve[1] != curve[0]


def test_area():
    assert curve_area((0, 0.5, 1.0), np.array([1.0, 1.0, 0.0])) == pytest.approx(0.75)
    assert curve_area((0.2, 0.4), np.array([0.5, 0.5])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="rates"):
        curve_area((0.4, 0.2), np.array([0.5, 0.5]))


def test_shares_and_sums():
    shares = layer_shares({"a": torch.tensor([1.0, -3.0]), "b": torch.zeros(2)})
    assert shares["a"].tolist() == [0.25, -0.75]
    assert shares["b"].tolist() == [0, 0]
    assert unit_sums({"a": torch.ones(2, 3, 2)})["a"].tolist() == [6, 6]


BAD = {"nan": torch.tensor([float("nan"), 1.0]), "empty": torch.zeros(0)}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize(
    "call",
    [
        prune_ranks,
        lambda s: keep_masks(s, 0.5),
        lambda s: shuffled_within(s, generator=torch.Generator()),
        layer_shares,
        unit_sums,
    ],
)
def test_bad_scores_are_named(call, bad):
    with pytest.raises(ValueError, match="scores"):
        call({"a": bad})


def test_bad_masks_are_named():
    model = vgg()
    first = next(iter(find_units(model, "filter")))
    for mask in (torch.ones(4), torch.tensor([0.5, 1, 1]), torch.ones(2, 3), torch.zeros(0)):
        with pytest.raises(ValueError, match="masks"), masked(model, {first: mask}):
            pass
    with pytest.raises(ValueError, match="conv9"), masked(model, {"conv9": torch.ones(3)}):
        pass
    with pytest.raises(ValueError, match="rate"):
        keep_masks({"a": torch.rand(3)}, 1.5)
    with pytest.raises(ValueError, match="scores is empty"):
        keep_masks({}, 0.5)
    with pytest.raises(ValueError, match="kind"):
        find_units(vgg(), "head")


def test_shared_weights_are_refused():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    with pytest.raises(ValueError, match="shared"), masked(model, {"0": torch.eye(3)}):
        pass


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_each_pass_computes_are_refused(norm):
    """A mask on such a weight would be lost in the next pass; on its units it holds."""
    model = nn.Sequential(norm(nn.Linear(3, 3)), nn.ReLU()).eval()
    with pytest.raises(ValueError, match=r"masks\['0'\]: this weight is computed"), masked(model, {"0": torch.eye(3)}):
        pass
    with masked(model, {"0": torch.tensor([True, False, True])}), torch.no_grad():
        assert model(torch.ones(2, 3))[:, 1].tolist() == [0, 0]
