"""XDA: heat maps sum to DualDA's score, are LRP by its definition, and add up to the class's map."""

from __future__ import annotations

import copy

import pytest
import torch

from shared.influence import DualDA, Similarity, class_map, explain_pairs
from shared.influence._xda import feature_model
from shared.lrp import Composite, EpsilonPlus, attribute
from tests.influence.nets import conv_net, features, linear_net


@pytest.fixture(scope="module")
def unbiased():
    """A network without biases below the features: LRP loses nothing to them."""
    net = conv_net(bias=False)
    return net, DualDA(C=0.1, tol=1e-6, max_epochs=20_000).fit(net)


def test_maps_sum_to_dualda_score(unbiased):
    net, method = unbiased
    x, rows = net.x[4], torch.arange(len(net))
    for c in range(3):
        pairs = explain_pairs(method, x, rows, c)
        tau = method.attribute(x[None], torch.tensor([c]))[0]
        torch.testing.assert_close(pairs.score, tau)
        for maps, gap in ((pairs.train, pairs.train_gap), (pairs.test, pairs.test_gap)):
            assert maps.shape == net.x.shape
            torch.testing.assert_close(maps.flatten(1).sum(1), tau, rtol=1e-4, atol=1e-6 * float(tau.abs().max()))
            torch.testing.assert_close(maps.flatten(1).sum(1) + gap, tau)


def test_biases_show_in_the_gap(conv):
    method = DualDA(C=0.1).fit(conv)
    pairs = explain_pairs(method, conv.x[0], method.support_[:5])
    assert pairs.train_gap.abs().max() > 1e-3 * pairs.score.abs().max()
    torch.testing.assert_close(pairs.train.flatten(1).sum(1) + pairs.train_gap, pairs.score)


def test_plain_rule_is_gradient_times_input(unbiased):
    """With LRP-0 in a ReLU network without biases, the map is input × gradient of α ⟨f(x), f(x_i)⟩."""
    net, method = unbiased
    i = int(method.support_[0])
    pairs = explain_pairs(method, net.x[1], torch.tensor([i]), 0, composite=Composite([]))
    body = net.model.body
    for mine, here, there in ((pairs.train[0], net.x[i], net.x[1]), (pairs.test[0], net.x[1], net.x[i])):
        leaf = here[None].clone().requires_grad_()
        value = method.alpha_[i, 0] * (body(leaf) * body(there[None]).detach()).sum()
        (gradient,) = torch.autograd.grad(value, leaf)
        torch.testing.assert_close(mine, (leaf * gradient).detach()[0])


def test_pairs_add_up_to_the_class_map(conv):
    method = DualDA(C=0.1, tol=1e-6, max_epochs=20_000).fit(conv)
    x = conv.x[2]
    pairs = explain_pairs(method, x, torch.arange(len(conv)), 1)
    whole = class_map(method, x, 1)
    torch.testing.assert_close(pairs.test.sum(0), whole, rtol=1e-6, atol=1e-9)
    direct = attribute(feature_model(conv), x[None], method.svm.coef_[1][None], composite=EpsilonPlus()).relevance[0]
    torch.testing.assert_close(whole, direct)


def test_leaves_the_network_alone(conv):
    before = copy.deepcopy(conv.model.state_dict())
    method = DualDA(C=0.1).fit(conv)
    explain_pairs(method, conv.x[0], [0, 1])
    assert all(torch.equal(v, before[k]) for k, v in conv.model.state_dict().items())
    torch.testing.assert_close(feature_model(conv)(conv.x[:3]), conv.train_features[:3])


def test_bad_input(conv):
    method = DualDA(C=0.1).fit(conv)
    with pytest.raises(ValueError, match="x has shape"):
        explain_pairs(method, conv.x[:2], [0])
    with pytest.raises(TypeError, match="DualDA"):
        explain_pairs(Similarity().fit(conv), conv.x[0], [0])
    with pytest.raises(ValueError, match="normalise"):
        explain_pairs(DualDA(C=0.1, normalise=True).fit(conv), conv.x[0], [0])
    flat = linear_net(*features(30))
    with pytest.raises(ValueError, match="no pixels"):
        explain_pairs(DualDA(C=0.1).fit(flat), flat.x[0], [0])
    with pytest.raises(RuntimeError, match="fit"):
        explain_pairs(DualDA(C=0.1), conv.x[0], [0])


def test_maps_of_pairs_do_not_depend_on_the_batch_size(conv):
    method = DualDA(C=0.1).fit(conv)
    rows = torch.arange(9)
    whole, parts = (explain_pairs(method, conv.x[0], rows, batch_size=size) for size in (None, 2))
    torch.testing.assert_close(whole.train, parts.train)
    torch.testing.assert_close(whole.test, parts.test)
