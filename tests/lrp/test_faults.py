"""Kinds of fault that users of peer libraries met: the right value, or one error that names the cause."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared.attribution import alti_logit
from shared.hooks import run_model
from shared.lrp import (
    CPLRP,
    AnyLinear,
    AttnLRP,
    Composite,
    Epsilon,
    EpsilonPlus,
    MergeBatchNorm,
    UnsupportedModule,
    ZPlus,
    attribute,
)


class Between(nn.Module):
    """`function` between two dense layers."""

    def __init__(self, function, width=4):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(width, 2)
        self.function = function

    def forward(self, x):
        return self.last(self.function(self.first(x)))


class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.product = nn.Bilinear(4, 4, 2)

    def forward(self, x):
        return self.product(x, x)


class OwnWeights(nn.Module):
    """A convolution whose kernel the input makes."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Linear(4, 3)

    def forward(self, x):
        return F.conv1d(x[:, None], self.kernel(x.mean(0)).view(1, 1, 3)).flatten(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(1, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.lstm(x[..., None])[0][:, -1])


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


NO_RULE = {
    "Glu": Between(F.glu, 2),
    "Exp2": Between(torch.exp2),
    "Log2": Between(lambda h: torch.log2(h.abs() + 1)),
    "Atan": Between(torch.atan),
    "Cdist": Between(lambda h: torch.cdist(h, h), 3),
    "Softshrink": nn.Sequential(nn.Linear(4, 4), nn.Softshrink(), nn.Linear(4, 2)),
    "Threshold": nn.Sequential(nn.Linear(4, 4), nn.Threshold(0.1, 0.0), nn.Linear(4, 2)),
    "Round": Between(torch.round),
    "Div": Between(lambda h: h / (h.abs() + 9)),
    "Squared": Between(Squared.apply),
    "Trilinear": Bilinear(),
    "Convolution": OwnWeights(),
    "RnnLayer|Sigmoid|Lstm|LSTM": Recurrent(),
}


@pytest.mark.parametrize("operation", NO_RULE)
def test_operations_without_a_rule_are_refused(operation):
    with pytest.raises(UnsupportedModule, match=f"no LRP rule for the operation .*({operation})"):
        attribute(NO_RULE[operation].eval(), torch.randn(3, 4), 0)


def test_softmax_beside_attention_is_refused(make_llama, token_ids):
    model = make_llama()
    head = nn.Sequential(model.lm_head, nn.Softmax(-1))
    model.lm_head = head
    with pytest.raises(UnsupportedModule, match=r"operation Softmax in Softmax at 'lm_head\.1'"):
        attribute(model, token_ids, 2, composite=AttnLRP())


HOMOGENEOUS = {
    "abs": torch.abs,
    "sort": lambda h: h.sort(1)[0],
    "maximum": lambda h: torch.maximum(h, -0.5 * h),
    "cumsum": lambda h: h.cumsum(1),
    "flip": lambda h: h.flip(1) / 3,
    "leaky": lambda h: F.leaky_relu(h, 0.1),
    "where": lambda h: torch.where(h > 0, h, 0.2 * h),
}


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_homogeneous_operations_conserve(name):
    model = Between(HOMOGENEOUS[name])
    for layer in (model.first, model.last):
        nn.init.zeros_(layer.bias)
    result = attribute(model.double().eval(), torch.randn(3, 4, dtype=torch.float64), 1, composite=Composite([]))
    assert torch.allclose(result.relevance.sum(1), result.output[:, 1])


class TwoBranches(nn.Module):
    """One convolution in two branches, each with a norm of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        fine, coarse = self.bn1(self.conv(x)), self.bn2(self.conv(F.avg_pool2d(x, 2)))
        return self.head(torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], 1))


class Twice(TwoBranches):
    """The same layer and norm, two times."""

    def forward(self, x):
        fine, coarse = self.bn1(self.conv(x)), self.bn1(self.conv(F.avg_pool2d(x, 2)))
        return self.head(torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], 1))


def _trained(model):
    for norm in (model.bn1, model.bn2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
        nn.init.uniform_(norm.weight, 0.5, 2.0)
    return model.double().eval()


def test_a_layer_shared_by_two_norms_is_not_merged():
    model, x = _trained(TwoBranches()), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    result = attribute(model, x, 0, composite=EpsilonPlus())
    assert torch.allclose(result.output, model(x))
    own = attribute(model, x, 0, composite=EpsilonPlus(canonizers=[]))
    assert torch.allclose(result.relevance, own.relevance)


def test_naming_a_pair_of_a_shared_layer_is_refused():
    model, x = _trained(TwoBranches()), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    composite = EpsilonPlus(canonizers=[MergeBatchNorm(pairs={"bn1": "conv"})])
    with pytest.raises(RuntimeError, match="'bn1' is called without it too"):
        attribute(model, x, 0, composite=composite)


def test_a_pair_used_twice_is_merged_both_times():
    model, x = _trained(Twice()), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    merged = attribute(model, x, 0, composite=Composite([(nn.Conv2d, Epsilon(zero_params="bias"))]))
    assert torch.allclose(merged.output, model(x))
    conv = nn.Conv2d(1, 3, 3, padding=1).double()
    scale = model.bn1.weight / (model.bn1.running_var + model.bn1.eps).sqrt()
    conv.weight.data = model.conv.weight * scale[:, None, None, None]
    conv.bias.data = (model.conv.bias - model.bn1.running_mean) * scale + model.bn1.bias
    model.conv, model.bn1 = conv, nn.Identity()
    plain = attribute(model, x, 0, composite=Composite([(nn.Conv2d, Epsilon(zero_params="bias"))]))
    assert torch.allclose(merged.relevance, plain.relevance)


@pytest.mark.parametrize("canonizers", [None, []])
def test_a_norm_by_the_batch_is_refused(canonizers):
    norm = nn.BatchNorm2d(2, track_running_stats=False)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.Flatten(), nn.Linear(8, 2)).eval()
    with pytest.raises(ValueError, match="BatchNorm2d at '1' has no running statistics"):
        attribute(model, torch.randn(3, 1, 4, 4), 0, composite=EpsilonPlus(canonizers=canonizers))


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.orthogonal])
def test_layers_with_parametrised_weights_get_their_rules_and_norms(norm):
    """A layer whose weight is computed has parts, but is a leaf: ZPlus of it, and its batch norm merged."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)).eval()
    plain[1].running_mean.uniform_(-0.5, 0.5)
    computed = copy.deepcopy(plain)
    for at in (0, 4):
        norm(computed[at])
        with torch.no_grad():
            plain[at].weight.copy_(computed[at].weight)
    x = torch.rand(2, 2, 4, 4)
    composite = Composite([(AnyLinear, ZPlus())])
    assert list(composite.rules(computed)) == list(composite.rules(plain)) == ["0", "4"]
    expected = attribute(plain, x, 1, composite=composite).relevance
    torch.testing.assert_close(attribute(computed, x, 1, composite=composite).relevance, expected)


def test_parametrised_weights_are_read():
    first = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    last = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2))
    model, x = nn.Sequential(first, nn.ReLU(), last).eval(), torch.randn(2, 4)
    plain = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    for mine, theirs in ((plain[0], first), (plain[2], last)):
        mine.weight.data, mine.bias.data = theirs.weight.detach().clone(), theirs.bias.detach().clone()
    got, want = (attribute(m, x, 1, composite=EpsilonPlus()).relevance for m in (model, plain))
    assert torch.allclose(got, want, atol=1e-6)


def test_inside_inference_mode(conv_net, images, make_llama, token_ids):
    want = attribute(conv_net, images, 1).relevance
    model = make_llama()
    tokens = attribute(model, {"input_ids": token_ids}, 2).tokens
    with torch.inference_mode():
        got = attribute(conv_net, images + 0, 1).relevance
        mask = torch.ones_like(token_ids)
        text = attribute(model, {"input_ids": token_ids + 0, "attention_mask": mask}, 2).tokens
    assert torch.allclose(got, want)
    assert torch.allclose(text, tokens, atol=1e-6)


def _gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    return GPT2LMHeadModel(config).eval()


@pytest.fixture
def padded():
    ids = torch.randint(3, 40, (2, 5))
    batch = torch.cat([torch.zeros(2, 3, dtype=torch.long), ids], 1)
    return ids, {"input_ids": batch, "attention_mask": (torch.arange(8) >= 3).long().expand(2, -1)}


@pytest.mark.parametrize("composite", [AttnLRP(), CPLRP()])
def test_left_padding_takes_no_learned_positions(composite, padded):
    ids, batch = padded
    model = _gpt2()
    alone, together = (attribute(model, x, 1, composite=composite) for x in (ids, batch))
    assert torch.allclose(together.output, alone.output, atol=1e-5)
    assert torch.allclose(together.tokens[:, 3:], alone.tokens, atol=1e-5)
    assert (together.tokens[:, :3] == 0).all()
    assert torch.allclose(
        run_model(model, batch).logits.flatten(0, -2)[-1], model(ids).logits.flatten(0, -2)[-1], atol=1e-5
    )


def test_left_padding_in_alti(padded):
    ids, batch = padded
    model = _gpt2()
    got, want = alti_logit(model, batch, 5), alti_logit(model, ids, 5)
    assert torch.allclose(got.tokens[:, 3:], want.tokens, atol=1e-5)
