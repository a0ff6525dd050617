"""Each rule against a slow re-implementation from its definition, and its limits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.lrp import (
    AlphaBeta,
    AnyLinear,
    Composite,
    Epsilon,
    Flat,
    Gamma,
    Norm,
    Pass,
    WSquare,
    ZBox,
    ZPlus,
    attribute,
    stabilize,
)

EPS = 1e-9


def stabilized(value):
    return value + (EPS if value >= 0 else -EPS)


def by_definition(name, x, w, b, r, **how):
    """Relevance of one sample by loops over outputs and inputs: `r` `(J,)` arrives, `(I,)` is returned."""
    result = torch.zeros_like(x)
    for j in range(len(w)):
        parts = [(w[j, i] * x[i]).item() for i in range(len(x))]
        bias = b[j].item()
        positive = sum(max(p, 0) for p in parts) + max(bias, 0)
        negative = sum(min(p, 0) for p in parts) + min(bias, 0)
        z = positive + negative
        for i, part in enumerate(parts):
            result[i] += share(name, part, max(part, 0), min(part, 0), z, positive, negative, **how) * r[j]
    return result


def share(name, part, up, down, z, positive, negative, gamma=0.0, alpha=1.0, beta=0.0):
    if name == "epsilon":
        return part / stabilized(z)
    if name == "gamma":
        extra, total = (up, positive) if z > 0 else (down, negative)
        return (part + gamma * extra) / stabilized(z + gamma * total)
    return alpha * up / stabilized(positive) - beta * down / stabilized(negative)


CASES = {
    "epsilon": (Epsilon(EPS), {}),
    "gamma": (Gamma(0.3, EPS), {"gamma": 0.3}),
    "alphabeta": (AlphaBeta(3, 2, EPS), {"alpha": 3.0, "beta": 2.0}),
    "zplus": (ZPlus(EPS), {}),
}


def explain(model, x, rule, seed, first=None):
    return attribute(
        model, x, seed, composite=Composite([(AnyLinear, rule)], first_map=[(AnyLinear, first)] if first else ())
    )


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_rule_equals_its_definition_on_a_dense_layer(name, nonnegative):
    rule, how = CASES[name]
    layer = nn.Linear(6, 4).double()
    x = torch.randn(3, 6, dtype=torch.float64)
    x = x.abs() if nonnegative else x
    seed = torch.randn(3, 4, dtype=torch.float64)
    ours = explain(layer, x, rule, seed)
    for n in range(3):
        r = (ours.output * seed)[n]
        expected = by_definition(name, x[n], layer.weight, layer.bias, r, **how)
        assert torch.allclose(ours.relevance[n], expected, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv1d(4, 6, 3, padding="same", dilation=2),
        nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular", groups=2),
        nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1),
    ],
    ids=["same", "circular", "transposed"],
)
def test_convolutions_equal_their_dense_matrix(name, conv):
    """A convolution is a dense layer with the Jacobian as its matrix."""
    rule, conv = CASES[name][0], conv.double()
    x = torch.randn(1, 4, 7, dtype=torch.float64)
    z = conv(x)
    dense = nn.Linear(28, z.numel()).double()
    with torch.no_grad():
        dense.weight.copy_(torch.autograd.functional.jacobian(lambda v: conv(v).flatten(), x).flatten(1))
        dense.bias.copy_(conv(torch.zeros_like(x)).flatten())
    seed = torch.randn_like(z)
    ours = explain(nn.Sequential(conv, nn.Flatten()), x, rule, seed.flatten(1)).relevance
    expected = explain(dense, x.flatten(1), rule, seed.flatten(1)).relevance
    assert torch.allclose(ours.flatten(), expected.flatten(), atol=1e-9)


def conv_relu(channels=2):
    return nn.Sequential(nn.Conv2d(channels, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)).double().eval()


@pytest.fixture
def pixels():
    return torch.rand(2, 2, 6, 6, dtype=torch.float64)


def test_gamma_zero_is_epsilon(pixels):
    model = conv_relu()
    a, b = (explain(model, pixels - 0.5, rule, 1).relevance for rule in (Gamma(0.0, EPS), Epsilon(EPS)))
    assert torch.allclose(a, b, atol=1e-12)


def test_large_gamma_approaches_zplus_for_positive_outputs(pixels):
    layer = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).double()
    nn.init.constant_(layer[1].bias, 3.0)
    a, b = (explain(layer, pixels - 0.5, rule, 1) for rule in (Gamma(1e9, EPS), ZPlus(EPS)))
    assert (a.output[:, 1] > 0).all()
    assert torch.allclose(a.relevance, b.relevance, atol=1e-7)


def test_alpha_beta_1_0_is_zplus(pixels):
    model = conv_relu()
    a, b = (explain(model, pixels - 0.5, rule, 1).relevance for rule in (AlphaBeta(1, 0), ZPlus()))
    assert torch.equal(a, b)


def test_alpha_beta_conserves_when_every_denominator_is_alive():
    model = nn.Sequential(nn.Linear(12, 64, bias=False), nn.ReLU(), nn.Linear(64, 3, bias=False)).double()
    x = torch.randn(5, 12, dtype=torch.float64)
    result = explain(model, x, AlphaBeta(2, 1, 0.0), 1)
    assert torch.allclose(result.relevance.sum(1), result.output[:, 1], rtol=1e-6)


def test_zplus_keeps_positive_relevance_positive(pixels):
    """Seeds of the logits' own sign make every incoming relevance positive."""
    assert (explain(conv_relu(), pixels, ZPlus(), torch.sign).relevance >= 0).all()


def test_zbox_keeps_positive_relevance_positive(pixels):
    model = conv_relu()
    result = explain(model, pixels, ZPlus(), torch.sign, first=ZBox(0.0, 1.0))
    assert (result.relevance >= -1e-12).all()


def test_flat_is_constant_over_a_receptive_field():
    model = nn.Sequential(nn.Conv2d(2, 3, 3, stride=3), nn.Flatten(), nn.Linear(12, 2)).double()
    relevance = explain(model, torch.randn(1, 2, 6, 6, dtype=torch.float64), Epsilon(), 0, first=Flat()).relevance
    blocks = relevance.unfold(2, 3, 3).unfold(3, 3, 3)  # (1, 2, 2, 2, 3, 3): one block per receptive field
    same = blocks.amax((1, 4, 5)) - blocks.amin((1, 4, 5))
    assert same.max() < 1e-12
    assert relevance.std() > 0


def test_wsquare_shares_by_squared_weights():
    layer = nn.Linear(5, 1, bias=False).double()
    x = torch.randn(1, 5, dtype=torch.float64)
    relevance = explain(layer, x, Epsilon(), 0, first=WSquare(0.0)).relevance
    expected = layer.weight**2 / (layer.weight**2).sum() * layer(x)
    assert torch.allclose(relevance, expected)


def test_large_epsilon_absorbs_everything(pixels):
    model = conv_relu()
    small = explain(model, pixels, Epsilon(1e9), 1).relevance.abs().max()
    assert small < 1e-9 * explain(model, pixels, Epsilon(), 1).relevance.abs().max()


def test_pass_and_norm_on_modules(pixels):
    model = nn.Sequential(nn.AvgPool2d(2), nn.Softplus(), nn.Flatten(), nn.Linear(18, 2)).double().eval()
    passed = attribute(model, pixels, 1, composite=Composite([(nn.Softplus, Pass())]), record=["0", "1"])
    assert torch.allclose(passed.latent["0"], passed.latent["1"])
    damped = attribute(model, pixels, 1, composite=Composite([(nn.AvgPool2d, Norm(1e6))])).relevance
    assert damped.abs().max() < 1e-5 * passed.relevance.abs().max()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AlphaBeta(2, 0.5), "alpha - beta must be 1"),
        (lambda: AlphaBeta(0.5, -0.5), "beta=-0.5 is out of range"),
        (lambda: Gamma(-1), "gamma=-1 is out of range"),
        (lambda: Epsilon(-1e-6), "epsilon=-1e-06 is out of range"),
        (lambda: Epsilon(zero_params="weight"), "zero_params="),
        (lambda: ZBox(1.0, 0.0), "must not exceed"),
    ],
)
def test_bad_rule_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("rule", [Flat(), WSquare(), ZBox(-1, 1)])
def test_input_rules_are_refused_elsewhere(rule, pixels):
    model = conv_relu()
    with pytest.raises(ValueError, match="for the input layer"):
        attribute(model, pixels, 1, composite=Composite([], name_map=[(["3"], rule)]))


class InputShortcut(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(72, 2)

    def forward(self, x):
        return self.fc((x + self.conv(x)).flatten(1))


def test_input_rules_refuse_an_input_that_goes_elsewhere_too(pixels):
    with pytest.raises(ValueError, match="the input feeds 2 operations"):
        attribute(InputShortcut().double(), pixels, 1, composite=Composite([], first_map=[(AnyLinear, Flat())]))


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 0.25])
@pytest.mark.parametrize("zero_params", [(), ("bias",)])
@pytest.mark.parametrize("rule", [Epsilon, Gamma, ZPlus, AlphaBeta])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_output_is_the_layers_own_under_any_rule_and_stabilizer(rule, zero_params, epsilon, shift):
    """Whatever a denominator holds (a stabilizer, the bias of one sign) must not show in what the model computes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 4)).double().eval()
    x = torch.rand(3, 2, 4, 4, dtype=torch.float64) - shift  # of one sign, and of both
    composite = Composite([(AnyLinear, rule(epsilon=epsilon, zero_params=zero_params))])
    torch.testing.assert_close(attribute(model, x, 1, composite=composite).output, model(x).detach())


def test_a_stabilized_denominator_is_never_zero():
    z = torch.tensor([0.0, -0.0, 2.0, -3.0], dtype=torch.float64)
    assert stabilize(z, 0.5).tolist() == [0.5, 0.5, 2.5, -3.5]
