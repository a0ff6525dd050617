"""Scores of channels against captum and by hand; circuits against a model with the channels' weights taken out."""

import copy
import math

import pytest
import torch
from captum.attr import LayerGradientXActivation
from torch import nn

from shared.circuits import channel_scores, circuit_logits, only_channels, overlap
from shared.lrp import Composite


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5)]
    return nn.Sequential(*layers).eval()


X = torch.rand(4, 2, 6, 6, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 1, 4, 2])


def test_gradient_times_activation_is_captums():
    model = net()
    ours = channel_scores(model, ["1", "3"], X, Y, composite=Composite([]), batch_size=3)
    for name in ("1", "3"):
        theirs = LayerGradientXActivation(model, model[int(name)]).attribute(X, Y).sum((2, 3))
        assert torch.allclose(ours[name], theirs.detach(), atol=1e-6)


def test_activation_and_ranks_by_hand():
    model = net()
    hidden = model[:2](X).abs().mean((2, 3)).detach()
    scores = channel_scores(model, ["1"], X, method="activation", batch_size=3)["1"]
    assert torch.allclose(scores, hidden)
    ranks = channel_scores(model, ["1"], X, method="rank")["1"]
    assert torch.allclose(ranks, hidden.argsort(1).argsort(1) / 3)


def test_equal_activations_have_equal_ranks():
    model = nn.Sequential(nn.Linear(1, 3, bias=False)).eval()
    nn.init.ones_(model[0].weight)
    assert channel_scores(model, ["0"], torch.ones(2, 1), method="rank")["0"].tolist() == [[0.5] * 3] * 2


def test_a_circuit_is_the_model_without_the_other_channels():
    model = net()
    kept = torch.tensor([[True, False, True, True], [False, True, False, False], [True] * 4])
    found = circuit_logits(model, {"1": kept}, X, batch_size=5)
    assert found.shape == (3, 4, 5)
    for mask, logits in zip(kept, found):
        cut = copy.deepcopy(model)
        with torch.no_grad():
            cut[2].weight[:, ~mask] = 0
            assert torch.allclose(cut(X), logits, atol=1e-6)
    with torch.no_grad():
        whole = model(X)
        assert torch.allclose(found[2], whole, atol=1e-6)
        with only_channels(model, {"1": kept[0]}):
            assert torch.allclose(model(X), found[0], atol=1e-6)
        assert torch.equal(model(X), whole)  # the context leaves nothing behind


def test_an_empty_circuit_is_what_the_biases_say():
    model = net()
    none = {"3": torch.zeros(1, 3, dtype=torch.bool)}
    assert torch.allclose(circuit_logits(model, none, X)[0], model[5].bias.detach().expand(4, -1))


def test_overlap():
    a, b = {"x": torch.tensor([True, True, False])}, {"x": torch.tensor([False, True, True])}
    nothing = {"x": torch.zeros(3, dtype=torch.bool)}
    assert overlap(a, a) == 1
    assert overlap(a, b) == pytest.approx(1 / 3)
    assert math.isnan(overlap(nothing, nothing))
    with pytest.raises(ValueError, match="second must have the layers"):
        overlap(a, {"y": a["x"]})


def test_bad_input_is_named():
    model = net()
    with pytest.raises(ValueError, match="stage"):
        channel_scores(model, ["stage"], X)
    with pytest.raises(ValueError, match="layers is empty"):
        channel_scores(model, [], X)
    with pytest.raises(ValueError, match="method"):
        channel_scores(model, ["1"], X, method="magnitude")
    with pytest.raises(ValueError, match=r"circuit\['1'\] must be bool"), only_channels(model, {"1": torch.ones(4)}):
        pass
    with only_channels(model, {"1": torch.ones(3, dtype=torch.bool)}):
        with pytest.raises(ValueError, match=r"circuit\['1'\] must have shape \(4,\)"):
            model(X)
    with pytest.raises(ValueError, match="as many rows for each layer"):
        circuit_logits(model, {"1": torch.ones(2, 4).bool(), "3": torch.ones(1, 3).bool()}, X)
    with pytest.raises(ValueError, match="as many rows"):
        circuit_logits(model, {}, X)


def test_silenced_channels_say_what_they_are_told():
    model = net()
    means = {"1": torch.tensor([0.1, 0.2, 0.3, 0.4])}
    mask = torch.tensor([True, False, True, False])
    with torch.no_grad():
        hidden = model[:2](X)
        hidden[:, 1], hidden[:, 3] = 0.2, 0.4
        want = model[2:](hidden)
        with only_channels(model, {"1": mask}, fill=means):
            assert torch.allclose(model(X), want, atol=1e-6)
    assert torch.allclose(circuit_logits(model, {"1": mask[None]}, X, fill=means)[0], want, atol=1e-6)
    with pytest.raises(ValueError, match="fill must have the layers"), only_channels(model, {"1": mask}, fill={}):
        pass
    with only_channels(model, {"1": mask}, fill={"1": torch.ones(3)}), pytest.raises(ValueError, match=r"fill\['1'\]"):
        model(X)
