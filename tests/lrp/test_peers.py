"""Agreement with zennit and lxt (golden arrays, made by tests/golden/make_lrp.py) and live with captum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shared.lrp import (
    CPLRP,
    AlphaBeta,
    AnyLinear,
    AttnLRP,
    AvgPool,
    Composite,
    Epsilon,
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    Gamma,
    Norm,
    WSquare,
    ZPlus,
    attribute,
)
from shared.lrp.rules._functions import UniformProduct, scale_gradient
from shared.lrp.transformers._modules import norm_forward

GOLDEN = Path(__file__).parents[1] / "golden"
EPS = 1e-12


def golden(name):
    with np.load(GOLDEN / name, allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def load(model, arrays):
    state = {k.removeprefix("state."): v for k, v in arrays.items() if k.startswith("state.")}
    model.load_state_dict(state)
    return model.double().eval()


def worst(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def conv_net():
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(8, 12, 3, stride=2, groups=2), nn.ReLU(inplace=True), nn.AvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(12, 5))


class ResidualNet(nn.Module):
    """As in make_lrp.py, but with a functional, in-place residual add: no Sum module is needed here."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6, eps=1e-14)
        self.relu1 = nn.ReLU()
        self.conv2, self.norm2 = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6, eps=1e-14)
        self.conv3, self.norm3, self.relu3 = nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8, eps=1e-14), nn.ReLU()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4)

    def forward(self, x):
        x = self.relu1(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(x))
        out += x
        return self.fc(self.pool(self.relu3(self.norm3(self.conv3(out)))).flatten(1))


class DeconvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, groups=2)
        self.down = nn.Conv1d(6, 5, 3, dilation=2)
        self.pool, self.fc = nn.AdaptiveAvgPool1d(1), nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.pool(self.down(self.up(x))).flatten(1))


NETS = {"conv": conv_net, "residual": ResidualNet, "deconv": DeconvNet}
RULES = {
    "epsilon": Epsilon(EPS),
    "epsilon_large": Epsilon(0.25),
    "gamma": Gamma(0.25, EPS),
    "gamma_large": Gamma(10.0, EPS),
    "gamma_nobias": Gamma(0.25, EPS, zero_params="bias"),
    "zplus": ZPlus(EPS),
    "zplus_nobias": ZPlus(EPS, zero_params=["bias"]),
    "alpha2_beta1": AlphaBeta(2, 1, EPS),
    "alpha3_beta2_nobias": AlphaBeta(3, 2, EPS, zero_params="bias"),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("net", ["conv", "deconv"])
def test_rules_agree_with_zennit(net, rule):
    arrays = golden(f"lrp_zennit_{net}.npz")
    model = load(NETS[net](), arrays)
    composite = Composite([(AnyLinear, RULES[rule]), (AvgPool, Norm(EPS))])
    result = attribute(model, arrays["x"], 1, composite=composite)
    assert torch.allclose(result.output, arrays["output"], atol=1e-10)
    assert worst(result.relevance, arrays[f"rule.{rule}"]) < 1e-9


def composites(eps):
    return {
        "epsilon_plus": EpsilonPlus(epsilon=eps),
        "epsilon_plus_flat": EpsilonPlusFlat(epsilon=eps),
        "epsilon_gamma_box": EpsilonGammaBox(-3.0, torch.full((1, 3, 1, 1), 3.0), epsilon=eps),
        "epsilon_alpha2_beta1": EpsilonAlpha2Beta1(epsilon=eps),
        "epsilon_alpha2_beta1_flat": EpsilonAlpha2Beta1Flat(epsilon=eps),
        "first_wsquare": Composite(
            [(AnyLinear, Epsilon(eps)), (AvgPool, Norm(eps))], first_map=[(AnyLinear, WSquare(eps))]
        ),
    }


@pytest.mark.parametrize("name", composites(0.0))
@pytest.mark.parametrize("net", ["conv", "residual"])
@pytest.mark.parametrize(("eps", "prefix", "tolerance"), [(EPS, "composite", 1e-9), (1e-6, "default", 1e-3)])
def test_composites_agree_with_zennit(net, name, eps, prefix, tolerance):
    arrays = golden(f"lrp_zennit_{net}.npz")
    model = load(NETS[net](), arrays)
    result = attribute(model, arrays["x"], 1, composite=composites(eps)[name])
    assert torch.allclose(result.output, arrays["output"], atol=1e-10)
    assert worst(result.relevance, arrays[f"{prefix}.{name}"]) < tolerance


def tiny(family):
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    if family == "gpt2":
        sizes = dict(vocab_size=20, n_embd=16, n_layer=2, n_head=4, n_positions=16)
        return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2))
    sizes = dict(vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=2)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("mode", ["attnlrp", "cp"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_transformers_agree_with_lxt(family, mode, attention):
    arrays = golden(f"lrp_lxt_{family}_{mode}.npz")
    model = load(tiny(family), arrays)
    model.set_attn_implementation(attention)
    result = attribute(model, {"input_ids": arrays["ids"]}, 3, composite=AttnLRP() if mode == "attnlrp" else CPLRP())
    assert torch.allclose(result.output, arrays["logits"], atol=1e-6)
    assert worst(result.relevance, arrays["relevance"]) < 1e-5


def pulled(y, inputs, incoming):
    """Relevance of the inputs when `y` carries the relevance `incoming`: coefficient `incoming / y`."""
    return [x * c for x, c in zip(inputs, torch.autograd.grad(y, inputs, incoming / y))]


def uniform_matmul(a, b):
    y = a @ b
    return scale_gradient(y, 0.5)


@pytest.mark.parametrize("name", ["softmax", "matmul", "product", "rms_norm", "layer_norm"])
def test_operations_agree_with_lxt_explicit(name):
    """Coefficient form against the explicit rules of AttnLRP, Props. 3.1-3.4."""
    arrays = golden("lrp_lxt_ops.npz")
    inputs = [v.requires_grad_() for k, v in sorted(arrays.items()) if k.startswith(f"{name}.input")]
    rms, mean = nn.RMSNorm(8, eps=1e-6).double(), nn.LayerNorm(8, eps=1e-6).double()
    for norm in (rms, mean):
        norm.weight.data.copy_(arrays["weight"])
    mean.bias.data.copy_(arrays["bias"])
    function = {
        "softmax": lambda x: torch.softmax(x, -1),
        "matmul": uniform_matmul,
        "product": UniformProduct.apply,
        "rms_norm": norm_forward(rms),
        "layer_norm": norm_forward(mean),
    }[name]
    ours = pulled(function(*inputs), inputs, arrays[f"{name}.incoming"])
    for n, relevance in enumerate(ours):
        assert worst(relevance, arrays[f"{name}.relevance{n}"]) < 1e-5


class PlainNet(nn.Module):
    """What captum's LRP can handle: modules used once, nothing in place, flattening in functional form."""

    def __init__(self):
        super().__init__()
        self.conv1, self.relu1, self.pool1 = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2, self.pool2 = nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AvgPool2d(3)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.pool1(self.relu1(self.conv1(x)))
        return self.fc(self.pool2(self.relu2(self.conv2(x))).flatten(1))


def test_epsilon_agrees_with_captum(images):
    attr = pytest.importorskip("captum.attr")
    model = PlainNet().double().eval()
    composite = Composite([(AnyLinear, Epsilon(1e-9)), (AvgPool, Norm(1e-9))])
    ours = attribute(model, images, 1, composite=composite).relevance
    theirs = attr.LRP(model).attribute(images.requires_grad_(), target=1).detach()
    assert worst(ours, theirs) < 1e-6


def test_gamma_agrees_with_captum(images):
    """captum's gamma rule is ours for inputs >= 0, outputs > 0 and no bias."""
    attr = pytest.importorskip("captum.attr")
    rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)).double().eval()
    x = torch.rand(4, 6, dtype=torch.float64)
    target = model(x).argmax(-1)
    assert (model(x).amax(-1) > 0).all()
    ours = attribute(model, x, target, composite=Composite([(AnyLinear, Gamma(0.25, 1e-9))])).relevance
    model[0].rule, model[2].rule = rules.GammaRule(0.25), rules.GammaRule(0.25)
    theirs = attr.LRP(model).attribute(x.requires_grad_(), target=target).detach()
    assert worst(ours, theirs) < 1e-6
