"""Heads, attention weights, parameters, the balance sheet, recorded layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.lrp import (
    CPLRP,
    AttnLRP,
    Composite,
    Epsilon,
    EpsilonPlus,
    Gamma,
    attention_relevance,
    attribute,
    conservation_report,
    head_relevance,
    weight_relevance,
)


@pytest.fixture
def llama(make_llama):
    return make_llama(initializer_range=0.2).double()


@pytest.mark.parametrize("composite", [AttnLRP(), CPLRP()], ids=["attnlrp", "cp"])
def test_heads_sum_to_what_enters_the_output_projection(composite, llama, token_ids):
    heads = head_relevance(llama, token_ids, 5, composite=composite)
    layers = [f"model.layers.{n}.self_attn.o_proj" for n in range(2)]
    latent = attribute(llama, token_ids, 5, composite=composite, record=layers).latent
    assert heads.shape == (3, 2, 4)
    for n, name in enumerate(layers):  # o_proj has no bias: what enters is what leaves
        assert torch.allclose(heads[:, n].sum(-1), latent[name].sum((1, 2)), atol=1e-6)


def test_head_options(llama, token_ids):
    heads = head_relevance(llama, token_ids, [5, 6], composite=AttnLRP())
    assert heads.shape == (2, 3, 2, 4)
    assert torch.equal(heads[1], head_relevance(llama, token_ids, 6, composite=AttnLRP()))
    positions = head_relevance(llama, token_ids, 5, composite=AttnLRP(), per_position=True)
    assert torch.allclose(positions.sum(-1), heads[0])
    positive = head_relevance(llama, token_ids, 5, composite=AttnLRP(), positive=True)
    assert (positive >= heads[0].clamp(min=0) - 1e-12).all()
    assert not llama.model.layers[0].self_attn.__dict__.keys() & {"_reprise_attention", "forward"}


def test_attention_weights_carry_half_or_all_of_the_heads(llama, token_ids):
    """`sum_ij A_ij (c V^T)_ij = sum z c`: all with CP-LRP, half with AttnLRP."""
    for composite, share in ((AttnLRP(), 0.5), (CPLRP(), 1.0)):
        weights = attention_relevance(llama, token_ids, 5, composite=composite)
        heads = head_relevance(llama, token_ids, 5, composite=composite)
        assert weights.shape == (3, 2, 4, 7, 7)
        assert torch.allclose(weights.sum((-1, -2)), share * heads, atol=1e-10)
        assert (weights.triu(1) == 0).all()


def test_weights_carry_their_layers_relevance(llama, token_ids):
    names = ["model.layers.0.mlp.down_proj", "model.layers.1.self_attn.v_proj.weight"]
    result = weight_relevance(llama, names, [token_ids], 5, composite=CPLRP())
    latent = attribute(
        llama, token_ids, 5, composite=CPLRP(), record=["model.layers.0.mlp", "model.layers.1.self_attn.v_proj"]
    )
    for name, layer in zip(names, latent.latent.values()):
        assert torch.allclose(result[name].sum(), layer.sum() / 3, atol=1e-6)
    assert all(p.requires_grad for p in llama.parameters())


def test_weight_reductions_over_samples(llama, token_ids):
    name = "model.layers.0.mlp.down_proj"
    single = [weight_relevance(llama, name, [row[None]], 5, composite=CPLRP())[name] for row in token_ids]
    expected = torch.stack(single)
    batches = [token_ids[:2], token_ids[2:]]
    close = dict(atol=1e-8)
    assert torch.allclose(weight_relevance(llama, name, batches, 5, composite=CPLRP())[name], expected.mean(0), **close)
    mean_abs = weight_relevance(llama, name, batches, 5, composite=CPLRP(), reduce="mean_abs")[name]
    assert torch.allclose(mean_abs, expected.abs().mean(0), **close)
    abs_mean = weight_relevance(llama, name, [(b, 5) for b in batches], None, composite=CPLRP(), reduce="abs_mean")[
        name
    ]
    assert torch.allclose(abs_mean, expected.mean(0).abs(), **close)


def test_weight_relevance_by_definition():
    """`R_w[k, j] = x_j w_kj c_k` for a dense net under Epsilon."""
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    x = torch.randn(1, 4, dtype=torch.float64)
    composite = Composite([(nn.Linear, Epsilon(1e-9))])
    r_hidden = attribute(model, x, 1, composite=composite, record=["0"]).latent["0"][0]
    z = model[0](x)[0]
    expected = torch.stack([model[0].weight[k] * x[0] * r_hidden[k] / z[k] for k in range(5)])
    assert torch.allclose(weight_relevance(model, "0", [x], 1, composite=composite)["0"], expected, atol=1e-9)


def test_weights_of_a_merged_convolution(residual_net, images):
    composite = Composite([])
    weights = weight_relevance(residual_net, "conv1", [images], 1, composite=composite)["conv1"]
    assert weights.shape == residual_net.conv1.weight.shape
    assert (weights != 0).any()


def test_bad_weight_requests_are_named(llama, token_ids, residual_net, images):
    with pytest.raises(ValueError, match="is no module of"):
        weight_relevance(llama, "model.layers.0.mlp.down", [token_ids], 5, composite=CPLRP())
    with pytest.raises(ValueError, match="neither a parameter nor a module with a weight"):
        weight_relevance(llama, "model.layers.0.mlp", [token_ids], 5, composite=CPLRP())
    with pytest.raises(ValueError, match="reduce='sum' is unknown"):
        weight_relevance(llama, "model.layers.0.mlp.down_proj", [token_ids], 5, composite=CPLRP(), reduce="sum")
    with pytest.raises(ValueError, match="batches is empty"):
        weight_relevance(llama, "model.layers.0.mlp.down_proj", [], 5, composite=CPLRP())
    with pytest.raises(ValueError, match="no relevance reaches conv2"):
        weight_relevance(residual_net, "conv2", [images], 1, composite=Composite([], name_map=[("conv2", Gamma())]))


def test_conservation_report(llama, token_ids, residual_net, images):
    frame = conservation_report(llama, token_ids, 5, composite=CPLRP())
    assert list(frame.columns) == ["module", "kind", "relevance", "share"]
    share = frame.set_index("module")["share"]
    assert abs(share["input"] - 1) < 1e-5
    assert abs(share["lm_head"] - 1) < 1e-9
    explained = attribute(llama, token_ids, 5, composite=CPLRP())
    assert abs(frame["relevance"].iloc[0] - explained.relevance.sum().item() / 3) < 1e-9
    cnn = conservation_report(residual_net, images, 1, composite=EpsilonPlus()).set_index("module")
    assert abs(cnn.loc["fc", "share"] - 1) < 1e-9
    assert not residual_net.fc._forward_hooks


def test_recorded_relevance_is_activation_times_coefficient(residual_net, images):
    result = attribute(residual_net, images, 1, composite=Composite([]), record=["bn2", "fc"])
    assert torch.allclose(result.latent["fc"][:, 1], result.output[:, 1])
    acts = {}
    handle = residual_net.bn2.register_forward_hook(lambda m, a, out: acts.update(bn2=out.clone()))
    residual_net(images)
    handle.remove()
    assert result.latent["bn2"].shape == acts["bn2"].shape
    assert (result.latent["bn2"][acts["bn2"] == 0] == 0).all()


def test_a_module_that_runs_twice_cannot_be_recorded():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.out(self.fc(self.fc(x)))

    model, x = Twice(), torch.randn(2, 3)
    assert attribute(model, x, 0, composite=Composite([])).relevance.shape == x.shape
    with pytest.raises(ValueError, match="runs more than once"):
        attribute(model, x, 0, composite=Composite([]), record=["fc"])
