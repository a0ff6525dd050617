"""Scores of units and weights, each from its formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shared.hooks import attention_modules, capture, edit, edit_heads, find_module
from shared.lrp import (
    AlphaBeta,
    Composite,
    Convolution,
    Epsilon,
    EpsilonAlpha2Beta1,
    EpsilonPlus,
    Linear,
    attribute,
    weight_relevance,
)
from shared.pruning import (
    activation_scores,
    find_units,
    gradient_scores,
    magnitude_scores,
    masked,
    random_scores,
    relevance_scores,
    unit_scores,
    unit_sums,
    wanda_scores,
)
from tests.pruning.test_masks import pictures, resnet, uniform, vgg, vit

TARGET = torch.tensor([0, 1, 2, 3, 0])


def by_hand(model, composite, name, reduce):
    latent = attribute(model, pictures(), TARGET, composite=composite, record=[name], init="one").latent[name]
    return reduce(latent)


def test_relevance_takes_the_absolute_value_where_it_is_told():
    model, composite = vgg(), EpsilonPlus()
    name = list(find_units(model, "filter"))[2]
    ways = {
        "sample": lambda r: r.sum((2, 3)).abs().sum(0),
        "position": lambda r: r.abs().sum((0, 2, 3)),
        "none": lambda r: r.sum((0, 2, 3)),
    }
    for absolute, reduce in ways.items():
        ours = relevance_scores(model, [name], pictures(), TARGET, composite=composite, absolute=absolute, batch_size=2)
        torch.testing.assert_close(ours[name], by_hand(model, composite, name, reduce))


def test_relevance_is_read_after_the_batch_norm():
    model = resnet()
    ours = relevance_scores(model, ["stem.conv"], pictures(), TARGET, composite=EpsilonPlus())
    reduce = lambda r: r.sum((2, 3)).abs().sum(0)  # noqa: E731
    torch.testing.assert_close(ours["stem.conv"], by_hand(model, EpsilonPlus(), "stem.norm", reduce))


def test_without_biases_a_layer_that_cuts_the_graph_carries_all():
    model = vgg()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.zeros_(module.bias)
    for rules in ([], [(Convolution, Epsilon(1e-9)), (Linear, Epsilon(1e-9))]):
        scores = relevance_scores(
            model.double(), find_units(model, "filter"), pictures().double(), TARGET,
            composite=Composite(rules), absolute="none",
        )  # fmt: skip
        for score in scores.values():
            assert score.sum().item() == pytest.approx(len(TARGET), rel=1e-5)


def test_order_and_batches_of_samples_do_not_matter():
    model = vit()
    order = torch.tensor([3, 0, 4, 1, 2])
    for kind in ("head", "neuron"):
        one = relevance_scores(model, find_units(model, kind), pictures(), TARGET)
        two = relevance_scores(model, find_units(model, kind), pictures()[order], TARGET[order], batch_size=2)
        for name in one:
            torch.testing.assert_close(one[name], two[name])


def test_one_and_logit_rank_one_image_alike():
    model = vgg()
    x = pictures(1)
    target = int(model(x).argmax())
    assert model(x).max() > 0
    one = relevance_scores(model, find_units(model, "filter"), x, target, init="one")
    logit = relevance_scores(model, find_units(model, "filter"), x, target, init="logit")
    for name in one:
        torch.testing.assert_close(one[name] * model(x).max().item(), logit[name])


def test_in_relu_nets_gradient_times_activation_is_lrp_0():
    model = vgg()
    names = [*find_units(model, "filter"), *find_units(model, "neuron")]
    plain = gradient_scores(model, names, pictures(), TARGET, batch_size=2)
    lrp = relevance_scores(model, names, pictures(), TARGET, composite=Composite([]), init="logit")
    for name in names:
        torch.testing.assert_close(plain[name], lrp[name])


@pytest.mark.parametrize(("make", "kind"), [(vgg, "filter"), (vit, "head"), (vit, "neuron")])
def test_gradient_times_activation_is_the_slope_of_the_gate(make, kind):
    """The derivative of the logit with respect to a factor on one unit, at 1: by finite differences."""
    model, x = make().double(), pictures(1).double()
    name, count = list(find_units(model, kind).items())[-1]
    scores = gradient_scores(model, [name], x, 2, absolute="none")[name]
    for unit in range(3):
        values = []
        for factor in (1 + 1e-5, 1 - 1e-5):
            gate = torch.ones(count, dtype=torch.float64)
            gate[unit] = factor
            with scaled(model, name, gate), torch.no_grad():
                out = model(x)
            values.append((out if make is vgg else out.logits)[0, 2].item())
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(scores[unit].item(), rel=1e-4, abs=1e-8)


def scaled(model, name, gate):
    if name in attention_modules(model):
        return edit_heads(model, {name: lambda heads: heads * gate[:, None]})
    shape = (-1, 1, 1) if isinstance(find_module(model, name), nn.Conv2d) else (-1,)
    return edit(model, {name: lambda value: value * gate.view(shape)})


def test_integrated_gradients_average_over_the_line():
    model, x = vgg(), pictures()
    name = list(find_units(model, "filter"))[1]
    total = 0
    for step in (1, 2, 3):
        with capture(model, name, detach=False) as seen:
            logits = model(x * step / 3)
        total = total + torch.autograd.grad(logits.gather(1, TARGET[:, None]).sum(), seen[name])[0] / 3
    with capture(model, name) as seen:
        model(x)
    for times, by in ((False, total), (True, total * seen[name])):
        ours = gradient_scores(model, [name], x, TARGET, steps=3, times_activation=times)[name]
        torch.testing.assert_close(ours, by.sum((2, 3)).abs().sum(0))


def test_activation():
    model, x = vgg(), pictures()
    name = list(find_units(model, "filter"))[1]
    with capture(model, name) as seen:
        model(x)
    torch.testing.assert_close(activation_scores(model, name, x, batch_size=2)[name], seen[name].abs().sum((0, 2, 3)))


def test_magnitude_with_its_norm_merged():
    model = resnet()
    nn.init.uniform_(model.stem.norm.weight)
    nn.init.uniform_(model.stem.norm.running_var)
    weight, norm = model.stem.conv.weight.detach(), model.stem.norm
    assert torch.equal(magnitude_scores(model, "stem.conv")["stem.conv"], weight.abs())
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    torch.testing.assert_close(
        magnitude_scores(model, "stem.conv", merge_norm=True)["stem.conv"], weight.abs() * scale.view(-1, 1, 1, 1)
    )


def test_wanda_of_a_dense_layer():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    x = torch.randn(7, 5, 4)
    ours = wanda_scores(model, "0", x, batch_size=3)["0"]
    torch.testing.assert_close(ours, model[0].weight.abs() * x.flatten(0, 1).norm(dim=0))


@pytest.mark.parametrize("groups", [1, 2])
def test_wanda_of_a_convolution(groups):
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=groups)
    x = torch.randn(3, 4, 8, 8)
    patches = nn.functional.unfold(x, 3, stride=2, padding=1)  # (B, C k k, L)
    norms = patches.square().sum((0, 2)).sqrt().view(4, 3, 3)
    per_row = torch.stack([norms.view(groups, 4 // groups, 3, 3)[row // (6 // groups)] for row in range(6)])
    ours = wanda_scores(nn.Sequential(conv).eval(), "0", x)["0"]
    torch.testing.assert_close(ours, conv.weight.abs() * per_row)


def test_of_one_dense_layer_the_least_relevant_weight_moves_the_output_least():
    model = nn.Sequential(nn.Linear(6, 1, bias=False)).eval().double()
    x = torch.randn(1, 6, dtype=torch.float64)
    scores = weight_relevance(model, ["0"], [x], 0, composite=Composite([]))
    before, moved = model(x), []
    for unit in range(6):
        mask = torch.ones(1, 6)
        mask[0, unit] = 0
        with masked(model, {"0": mask}):
            moved.append((model(x) - before).abs().item())
    assert torch.tensor(moved).argmin() == scores["0"].abs().argmin()


def test_random_covers_every_layer_and_sums_rows():
    model = vgg()
    names = find_units(model, "filter")
    scores = random_scores(model, names, generator=torch.Generator().manual_seed(0))
    assert {name: len(score) for name, score in scores.items()} == names
    assert {n: len(s) for n, s in unit_sums(magnitude_scores(model, names)).items()} == names


def test_scores_leave_the_model_alone():
    model = resnet()
    before = model(pictures())
    names = find_units(model, "filter")
    relevance_scores(model, names, pictures(), TARGET)
    gradient_scores(model, names, pictures(), TARGET, steps=2)
    activation_scores(model, names, pictures())
    wanda_scores(model, names, pictures())
    assert torch.equal(model(pictures()), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_relevance_under_masks_gives_pruned_units_none():
    model = resnet()
    masks = {name: score > 0.5 for name, score in uniform(model, "filter").items()}
    with masked(model, masks):
        scores = relevance_scores(
            model, masks, pictures(), TARGET, composite=Composite([(Convolution, AlphaBeta(2, 1))])
        )
    assert all(not scores[name][~mask].any() for name, mask in masks.items())


def test_bad_calls_are_named():
    model = vit()
    mixed = [next(iter(find_units(model, "head"))), next(iter(find_units(model, "neuron")))]
    with pytest.raises(ValueError, match="layers mixes"):
        relevance_scores(model, mixed, pictures(), TARGET)
    with pytest.raises(ValueError, match="layers"):
        activation_scores(model, [], pictures())
    with pytest.raises(ValueError, match="target"):
        gradient_scores(model, mixed[:1], pictures(), 9)
    with pytest.raises(ValueError, match="no weight"):
        magnitude_scores(model, mixed[:1])
    with pytest.raises(ValueError, match="absolute"):
        relevance_scores(model, mixed[:1], pictures(), TARGET, absolute="both")
    with pytest.raises(ValueError, match="training mode"):
        gradient_scores(resnet().train(), ["stem.conv"], pictures(), TARGET)


def test_methods_by_name():
    model, x = resnet(), pictures()
    names = find_units(model, "filter")
    by_name = lambda **options: unit_scores(model, names, x, TARGET, **options)  # noqa: E731
    same = {
        "relevance": relevance_scores(model, names, x, TARGET),
        "gradient": gradient_scores(model, names, x, TARGET),
        "activation": activation_scores(model, names, x),
        "magnitude": unit_sums(magnitude_scores(model, names)),
        "wanda": unit_sums(wanda_scores(model, names, x)),
    }
    for method, scores in same.items():
        assert all(torch.equal(scores[name], value) for name, value in by_name(method=method).items())
    squares = by_name(method="magnitude", power=2, shares=True)
    for name, score in squares.items():
        norms = magnitude_scores(model, name)[name].square().flatten(1).sum(1)
        torch.testing.assert_close(score, norms / norms.sum())
    assert len(by_name(method="random", generator=torch.Generator().manual_seed(0))) == len(names)
    with pytest.raises(ValueError, match="method"):
        by_name(method="taylor")


@pytest.mark.parametrize("preset", ["epsilon_plus", "epsilon_alpha2_beta1"])
def test_filters_score_as_with_zennit(preset):
    """tests/golden/make_pruning.py, the official code's way with zennit: relevance 1 at the target, sums over space."""
    golden = Path(__file__).parents[1] / "golden"
    with np.load(golden / "lrp_zennit_conv.npz") as stored:
        state = {name.removeprefix("state."): torch.tensor(stored[name]) for name in stored if "state." in name}
        x = torch.tensor(stored["x"])
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, stride=2, groups=2)]
    model = nn.Sequential(*layers, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 5))
    model.load_state_dict(state)
    composite = {"epsilon_plus": EpsilonPlus, "epsilon_alpha2_beta1": EpsilonAlpha2Beta1}[preset](epsilon=1e-12)
    with np.load(golden / "pruning_zennit.npz") as zennit:
        for absolute in ("sample", "none"):
            options = {"composite": composite, "absolute": absolute}
            ours = relevance_scores(model.double().eval(), ["0", "3"], x, 1, **options)
            for layer, scores in ours.items():
                np.testing.assert_allclose(scores, zennit[f"{preset}.{layer}.{absolute}"], rtol=1e-4, atol=1e-9)


def test_gradient_times_activation_is_captums():
    captum = pytest.importorskip("captum.attr")
    model = resnet()
    theirs = captum.LayerGradientXActivation(model, model.stem.norm).attribute(pictures(), target=TARGET)
    ours = gradient_scores(model, "stem.conv", pictures(), TARGET)["stem.conv"]
    torch.testing.assert_close(ours, theirs.sum((2, 3)).abs().sum(0).detach())
