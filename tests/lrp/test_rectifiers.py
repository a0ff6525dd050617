"""Composites that change the gradient at ReLUs, against captum and against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.attribution import deconvnet, gradient, guided_backprop
from shared.lrp import BetaSmooth, Deconvnet, ExcitationBackprop, GuidedBackprop, attribute


@pytest.mark.parametrize(("composite", "peer"), [(GuidedBackprop(), guided_backprop), (Deconvnet(), deconvnet)])
def test_relevance_is_x_times_captums_gradient(composite, peer, conv_net, images):
    ours = attribute(conv_net, images, 2, composite=composite).relevance
    assert torch.allclose(ours, images * peer(conv_net, images, 2), atol=1e-12)
    assert not torch.allclose(ours, images * gradient(conv_net, images, 2))


def test_by_hand():
    """One ReLU: guided keeps what is positive both ways, deconvolution what is positive above."""
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False)).double().eval()
    x = torch.randn(5, 3, dtype=torch.float64)
    lower, upper = model[0].weight.detach(), model[2].weight.detach()[0]
    above = upper.clamp(min=0).expand(5, -1)
    on = (x @ lower.T > 0).double()
    smooth = torch.sigmoid(4.0 * (x @ lower.T)) * upper
    for composite, c in ((GuidedBackprop(), above * on), (Deconvnet(), above), (BetaSmooth(beta=4.0), smooth)):
        assert torch.allclose(attribute(model, x, 0, composite=composite).relevance, x * (c @ lower))


def test_sharp_smoothing_is_the_gradient(conv_net, images):
    ours = attribute(conv_net, images, 2, composite=BetaSmooth(beta=1e9)).relevance
    assert torch.allclose(ours, images * gradient(conv_net, images, 2), atol=1e-9)


def test_excitation_is_a_distribution_over_a_positive_image(conv_net, images):
    """Positive shares only, of a positive start: a probability of being the winner, as the paper reads it."""
    for module in conv_net:
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    result = attribute(conv_net, images.abs(), 2, composite=ExcitationBackprop(), init="one")
    kept = result.relevance.flatten(1)
    assert (kept * result.output[:, 2:3].sign() >= -1e-9).all() or (kept >= -1e-9).all()
    assert torch.allclose(kept.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-3)
