"""Counts and mean relevance vectors of classes against captum's attributions of every image kept."""

import pytest
import torch
from captum.attr import InputXGradient, LayerGradientXActivation
from torch import nn

from shared.circuits import class_relevance, input_contributions


def net() -> nn.Sequential:
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 5, 3, stride=2, padding=1, dilation=2)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)).eval()


X = torch.rand(40, 2, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(40) % 3


def batches(size):
    return zip(X.split(size), Y.split(size))


def theirs(layer, inputs, unit):
    """(B, inputs) of one unit's sum over positions."""
    summed = InputXGradient(lambda a: layer(a).flatten(2).sum(2))
    found = summed.attribute(inputs.detach().requires_grad_(), target=unit)
    return found.flatten(2).sum(2).detach()


def test_counts_are_captums():
    model = net()
    relevance = LayerGradientXActivation(model, model[2]).attribute(X, Y).sum((2, 3)).detach()
    important = relevance >= 0.25 * relevance.clamp(min=0).sum(1, keepdim=True)
    found = class_relevance(model, "2", batches(7), n_classes=4, threshold=0.25)
    assert found.counts.tolist() == [important[c == Y].sum(0).tolist() for c in range(4)]
    assert found.images.tolist() == [14, 13, 13, 0]
    share = float(important[Y == 0].double().mean(0)[0])
    assert found.important(share=share)[0, 0]
    assert not found.important(share=min(share + 0.01, 1))[0, 0]
    assert not found.important(share=0.0)[3].any()  # no images


@pytest.mark.parametrize("size", [1, 7, 40])
def test_vectors_are_means_of_captums(size):
    model = net()
    found = class_relevance(model, "2", batches(size), n_classes=3)
    hidden = model[:2](X)
    for unit in range(5):
        want = theirs(model[2], hidden, unit)
        want = torch.stack([want[c == Y].mean(0) for c in range(3)])
        assert torch.allclose(found.vectors(unit).float(), want, atol=1e-5)


LAYERS = {
    "linear": (nn.Linear(6, 4), (3, 6)),
    "tokens": (nn.Linear(6, 4), (3, 5, 6)),
    "series": (nn.Conv1d(6, 4, 3, stride=2, padding=2), (3, 6, 9)),
    "reflected": (nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), (3, 6, 5, 4)),
    "volume": (nn.Conv3d(6, 4, 3, padding="same"), (3, 6, 3, 4, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_contributions_are_gradient_times_input(name):
    layer, shape = LAYERS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
    found = input_contributions(layer, x, units=[3, 0])
    axis = -1 if isinstance(layer, nn.Linear) else 1
    for row, unit in enumerate((3, 0)):
        (grad,) = torch.autograd.grad(layer(x).select(axis, unit).sum(), x)
        want = (grad * x).detach().movedim(axis, 1)
        want = want.flatten(2).sum(2) if want.ndim > 2 else want
        assert torch.allclose(found[:, row], want, atol=1e-5)


def test_contributions_and_bias_are_the_unit():
    layer, x = nn.Conv2d(6, 4, 3, padding=1), torch.randn(3, 6, 5, 4, generator=torch.Generator().manual_seed(2))
    found = input_contributions(layer, x, units=range(4)).sum(2) + 20 * layer.bias
    assert torch.allclose(found, layer(x).sum((2, 3)), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "1"}, "ReLU, which has no linear sum"),
        ({"layer": "7"}, "'7' is no module"),
        ({"data": []}, "data has no batches"),
        ({"data": [(X, Y[:3])]}, "data: classes has shape"),
        ({"data": [(X, Y.float())]}, "data: classes must be whole numbers"),
        ({"data": [(X, Y)], "n_classes": 2}, "data: classes must be whole numbers from 0 to 1"),
        ({"data": [(X * torch.nan, Y)]}, "data has .* NaN"),
        ({"n_classes": 0}, "n_classes"),
        ({"threshold": 1.5}, "threshold"),
    ],
)
def test_bad_calls_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        class_relevance(**{"model": net(), "layer": "2", "data": batches(7), "n_classes": 3, **change})


def test_bad_units_and_shares_are_refused_by_name():
    found = class_relevance(net(), "2", batches(40), n_classes=3)
    for call, message in [(lambda: found.vectors(5), "unit"), (lambda: found.important(share=1.2), "share")]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="units"):
        input_contributions(nn.Linear(3, 2), torch.rand(2, 3), units=[2])


def test_a_unit_without_relevance_is_important_for_no_image():
    model = net()
    torch.nn.init.zeros_(list(model.modules())[-1].weight)
    assert not bool(class_relevance(model, "2", batches(7), n_classes=4, threshold=0.25).counts.any())


def test_inputs_of_one_axis_are_refused_by_name():
    with pytest.raises(ValueError, match=r"inputs has shape \(3,\)"):
        input_contributions(nn.Linear(3, 2), torch.ones(3), units=[0])
