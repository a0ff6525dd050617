"""LRP on a trained network without normalisation, which the repository ships: identities that need no fetched model."""

import pytest
import torch

from shared import zoo
from shared.lrp import Composite, EpsilonPlus, attribute


@pytest.fixture(scope="module")
def vgg():
    return zoo.load_model("vgg-fashion")


@pytest.fixture(scope="module")
def x(vgg):
    return vgg.preprocess(zoo.load_data("fashion-mnist", split="test").x[:8])


def test_lrp0_is_gradient_times_input(vgg, x):
    """On ReLUs and max-pooling both are the same product (Ancona et al. 2018, proposition 1)."""
    x = x.clone().requires_grad_()
    target = vgg.model(x).argmax(1)
    vgg.model(x).gather(1, target[:, None]).sum().backward()
    relevance = attribute(vgg.model, x.detach(), target, composite=Composite([])).relevance
    torch.testing.assert_close(relevance, x.detach() * x.grad, atol=1e-4, rtol=1e-3)


def test_the_positive_rule_is_another_map(vgg, x):
    """The control of the test above."""
    zero, plus = (attribute(vgg.model, x, composite=c).relevance for c in (Composite([]), EpsilonPlus()))
    assert (zero - plus).abs().mean() > 0.1 * zero.abs().mean()
