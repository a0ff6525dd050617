"""What must hold for every composite: the model is untouched, results are linear, batched and conserving."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.lrp import (
    CPLRP,
    AttnLRP,
    Composite,
    Epsilon,
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    Gamma,
    attribute,
    contrast,
    zero_mean,
)

CNN_COMPOSITES = {
    "lrp0": Composite([]),
    "plus": EpsilonPlus(),
    "plus_flat": EpsilonPlusFlat(),
    "box": EpsilonGammaBox(-3.0, 3.0),
    "alpha_beta": EpsilonAlpha2Beta1(),
    "alpha_beta_flat": EpsilonAlpha2Beta1Flat(),
}
TRANSFORMER_COMPOSITES = {"attnlrp": AttnLRP(), "cp": CPLRP(), "gamma": CPLRP(gamma_linear=0.05, gamma_conv=0.25)}

cnn = pytest.mark.parametrize("composite", CNN_COMPOSITES.values(), ids=CNN_COMPOSITES)
transformer = pytest.mark.parametrize("composite", TRANSFORMER_COMPOSITES.values(), ids=TRANSFORMER_COMPOSITES)


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_untouched(model, before):
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for module in model.modules():
        assert "forward" not in module.__dict__
        assert not any(name.startswith("_reprise") for name in module.__dict__)
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@cnn
@pytest.mark.parametrize("net", ["conv_net", "residual_net"])
def test_forward_is_unchanged_and_everything_is_undone(composite, net, images, request):
    model = request.getfixturevalue(net)
    before, plain = snapshot(model), model(images)
    result = attribute(model, images, 1, composite=composite, record=[next(n for n, m in model.named_modules() if n)])
    assert (result.output - plain).abs().max() < 1e-10
    assert result.relevance.shape == images.shape
    assert_untouched(model, before)
    assert torch.equal(model(images), plain)


@transformer
def test_llama_forward_is_unchanged_and_everything_is_undone(composite, make_llama, token_ids):
    model = make_llama()
    before, plain = snapshot(model), model(token_ids).logits[:, -1]
    result = attribute(model, token_ids, 1, composite=composite)
    assert (result.output - plain).abs().max() < 1e-5
    assert result.relevance.shape == (3, 7, 32)
    assert_untouched(model, before)
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(model(token_ids).logits[:, -1], plain)


def test_everything_is_undone_after_an_exception(residual_net, make_llama, token_ids, images):
    before = snapshot(residual_net)
    with pytest.raises(ValueError, match="out of range"):
        attribute(residual_net, images, 99, composite=EpsilonPlusFlat(), record=["bn2"])
    assert_untouched(residual_net, before)
    assert residual_net.act.inplace
    llama = make_llama()
    before = snapshot(llama)
    with pytest.raises(KeyError), AttnLRP().context(llama):
        raise KeyError("user code fails inside")
    assert_untouched(llama, before)


@cnn
def test_batch_equals_rows(composite, residual_net, images):
    whole = attribute(residual_net, images, 2, composite=composite).relevance
    rows = torch.cat([attribute(residual_net, images[i : i + 1], 2, composite=composite).relevance for i in range(3)])
    assert torch.allclose(whole, rows, atol=1e-12, rtol=1e-9)


@transformer
def test_batch_equals_rows_in_llama(composite, make_llama, token_ids):
    model = make_llama().double()
    whole = attribute(model, token_ids, 2, composite=composite).relevance
    rows = torch.cat([attribute(model, row[None], 2, composite=composite).relevance for row in token_ids])
    assert torch.allclose(whole, rows, atol=1e-6 * whole.abs().max())


@transformer
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing_and_gets_nothing(composite, side, make_llama, token_ids):
    model = make_llama().double()
    plain = attribute(model, token_ids, 2, composite=composite).tokens
    pad, mask = torch.zeros(3, 2, dtype=torch.long), torch.ones_like(token_ids)
    parts, masks = (pad, token_ids), (pad, mask)
    if side == "right":
        parts, masks = parts[::-1], masks[::-1]
    mask = torch.cat(masks, 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    x = {"input_ids": torch.cat(parts, 1), "attention_mask": mask, "position_ids": positions}
    padded = attribute(model, x, 2, composite=composite).tokens
    assert (padded[mask == 0] == 0).all()
    assert torch.allclose(padded[mask == 1].reshape(3, 7), plain, atol=1e-6 * plain.abs().max())


@cnn
def test_linear_in_the_target(composite, residual_net, images):
    both = attribute(residual_net, images, contrast(1, 3), composite=composite).relevance
    one, other = attribute(residual_net, images, [1, 3], composite=composite).relevance
    assert torch.allclose(both, one - other, atol=1e-5 * one.abs().max())


def test_list_of_targets_equals_single_calls(conv_net, images):
    many = attribute(
        conv_net, images, [0, torch.tensor([1, 2, 3]), zero_mean(4)], composite=EpsilonPlus(), record=["3"]
    )
    singles = [
        attribute(conv_net, images, t, composite=EpsilonPlus(), record=["3"]) for t in (0, torch.tensor([1, 2, 3]))
    ]
    assert many.relevance.shape == (3, *images.shape)
    for n, single in enumerate(singles):
        assert torch.equal(many.relevance[n], single.relevance)
        assert torch.equal(many.latent["3"][n], single.latent["3"])
        assert torch.equal(many.gap[n], single.gap)


def bias_free_net():
    layers = [nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 4, bias=False)).double().eval()


@pytest.mark.parametrize("rule", [Epsilon(0.0), Gamma(0.25, 0.0), Gamma(10.0, 0.0)], ids=str)
def test_bias_free_relu_net_conserves(rule, images):
    model = bias_free_net()
    result = attribute(model, images, 1, composite=Composite([((nn.Conv2d, nn.Linear), rule)]))
    logit = result.output[:, 1]
    assert (result.relevance.flatten(1).sum(1) - logit).abs().max() < 1e-6 * logit.abs().max()
    assert result.gap.abs().max() < 1e-6 * logit.abs().max()


def test_init_one_sums_to_one(images):
    model = bias_free_net()
    result = attribute(model, images, 1, composite=Composite([]), init="one")
    assert torch.allclose(result.relevance.flatten(1).sum(1), torch.ones(3, dtype=torch.float64))


def test_softmax_contrast_is_target_minus_mean_of_others(conv_net, images):
    a = attribute(conv_net, images, 1, composite=Composite([]), init="softmax-contrast").relevance
    weights = torch.full((3, 5), -0.25, dtype=torch.float64)
    weights[:, 1] = 1
    assert torch.allclose(a, attribute(conv_net, images, weights, composite=Composite([])).relevance)


def test_context_is_usable_by_hand(residual_net, images):
    x = images.clone().requires_grad_()
    with EpsilonPlus().context(residual_net):
        (c,) = torch.autograd.grad(residual_net(x)[:, 1].sum(), x)
    assert torch.allclose(c * images, attribute(residual_net, images, 1, composite=EpsilonPlus()).relevance)
    composite = EpsilonPlus()
    composite.register(residual_net)
    assert torch.equal(c, torch.autograd.grad(residual_net(x)[:, 1].sum(), x)[0])
    composite.remove()
    (plain,) = torch.autograd.grad(residual_net(x)[:, 1].sum(), x)
    assert not torch.allclose(c, plain)


def test_conditions_mask_channels_and_add_up(residual_net, images):
    """Relevance through disjoint channel sets adds up to the whole (CRP)."""
    whole = attribute(residual_net, images, 1, composite=EpsilonPlus(), record=["act"])
    parts = attribute(
        residual_net,
        images,
        1,
        composite=EpsilonPlus(),
        conditions=[{"act": [0, 1, 2]}, {"act": [3, 4, 5, 6, 7]}],
        channel_axis=1,
    )
    alone = attribute(
        residual_net, images, 1, composite=EpsilonPlus(), conditions={"act": 2}, channel_axis=1, record=["act"]
    )
    assert torch.allclose(parts.relevance.sum(0), whole.relevance, atol=1e-12)
    assert (alone.latent["act"][:, 2] == whole.latent["act"][:, 2]).all()
    assert (alone.latent["act"][:, :2] == 0).all()
    nested = attribute(
        residual_net,
        images,
        1,
        composite=EpsilonPlus(),
        conditions={"act": [2, 3], "bn2": torch.zeros(8, 1, 1)},
        channel_axis=1,
    )
    assert nested.relevance.abs().sum() < whole.relevance.abs().sum()
