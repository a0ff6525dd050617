"""WeightLens and CircuitLens: outliers from their closed form, parts that add up, heads against autograd."""

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from shared.circuits import feature_parts, projection_outliers, reading_directions
from shared.hooks import capture, edit_heads, find_module, transformer_parts
from shared.sae import SAEConfig, SparseDict

D, LATENTS = 16, 24
IDS = torch.randint(0, 11, (5, 6), generator=torch.Generator().manual_seed(3))


def roughened(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.eval()


def llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": D, "intermediate_size": 20, "num_attention_heads": 4, "num_key_value_heads": 2}
    return roughened(LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=3, vocab_size=11, attention_bias=True)))


def gpt2():
    torch.manual_seed(0)
    return roughened(GPT2LMHeadModel(GPT2Config(n_embd=D, n_layer=3, n_head=4, vocab_size=11, n_positions=8)))


def gemma2():
    sizes = {"hidden_size": D, "intermediate_size": 20, "num_attention_heads": 4, "num_key_value_heads": 2}
    return Gemma2ForCausalLM(Gemma2Config(**sizes, head_dim=4, num_hidden_layers=2, vocab_size=11)).eval()


def transcoders(skip=False):
    made = {}
    for layer in range(3):
        cfg = SAEConfig("topk", D, LATENTS, k=6, d_out=D, skip=skip)
        made[layer] = SparseDict(cfg, generator=torch.Generator().manual_seed(layer))
        made[layer].b_enc.data.normal_(generator=torch.Generator().manual_seed(9))
    return made


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("skip", [False, True])
def test_parts_add_up_to_what_the_encoder_gives(make, skip):
    model, made, latent = make(), transcoders(skip), torch.tensor([0, 5, 2, 23, 5])
    found = feature_parts(model, made, IDS, 2, latent)
    name = transformer_parts(model).layer("mlp_norm", 2)
    with capture(model, name) as seen, torch.no_grad():
        model(IDS)
    expected = (made[2].W_enc.T[latent] * seen[name][:, -1]).sum(1) + made[2].b_enc[latent]
    torch.testing.assert_close(found.total.float(), expected, rtol=1e-4, atol=1e-4)
    assert found.attention.shape == (5, 3, 4, 6)
    assert found.rest.shape == (5, 2)
    assert (found.features[0] != 0).sum(1).max() <= made[0].cfg.k  # what doesn't fire gives nothing


@pytest.mark.parametrize("make", [llama, gpt2])
def test_heads_of_the_last_block_are_gradient_times_value(make):
    """Behind the frozen norm a head of the feature's own block is linear: its part is its output times the slope."""
    model, made = make(), transcoders()
    parts, layer = transformer_parts(model), 2
    name, heads = parts.layer("mlp_norm", layer), {}

    def keep(output):
        heads["out"] = output.detach().clone().requires_grad_()
        return heads["out"]

    with edit_heads(model, {parts.layer("attention", layer): keep}), capture(model, name, detach=False) as seen:
        model(IDS)
    x = seen[name][:, -1]
    norm = find_module(model, name)
    with capture(model, name, at="input") as before, torch.no_grad():
        model(IDS)
    r = before[name][:, -1]
    spread = (r.var(1, correction=0) + norm.eps) if isinstance(norm, torch.nn.LayerNorm) else None
    scale = (spread if spread is not None else r.pow(2).mean(1) + model.config.rms_norm_eps).rsqrt()
    g = reading_directions(model, made[layer], layer)[4] * scale[:, None]
    linear = find_module(model, parts.layer("output", layer))
    weight = linear.weight if isinstance(linear, torch.nn.Linear) else linear.weight.T
    back = (g @ weight).unflatten(1, (4, -1))
    expected = (heads["out"][:, -1] * back).sum(-1)
    found = feature_parts(model, made, IDS, layer, 4).attention[:, -1].sum(-1)
    assert x.shape == (5, D)
    torch.testing.assert_close(found.float(), expected.detach(), rtol=1e-4, atol=1e-4)


def test_folded_directions_read_the_stream_as_the_encoder_reads_behind_the_norm():
    model, made = llama(), transcoders()
    r = torch.randn(7, D, generator=torch.Generator().manual_seed(0))
    norm = find_module(model, transformer_parts(model).layer("mlp_norm", 1))
    with torch.no_grad():
        behind = norm(r) @ made[1].W_enc
    scale = (r.pow(2).mean(1, keepdim=True) + model.config.rms_norm_eps).rsqrt()
    torch.testing.assert_close((r * scale) @ reading_directions(model, made[1], 1).T, behind.detach())


def test_outliers_follow_their_closed_form():
    """One of n: z = sqrt(n - 1). m equal ones of n: z = sqrt(n / m - 1)."""
    values = torch.zeros(3, 101)
    values[0, 7] = 5.0
    values[1, :50] = 5.0
    one, fifty, none = projection_outliers(values, n_top=101, z=9.99)
    assert one.tolist() == [7]
    assert fifty.tolist() == none.tolist() == []
    assert projection_outliers(values[:1], n_top=101, z=10.01)[0].tolist() == []
    values[2, [3, 9]] = torch.tensor([4.0, 6.0])
    assert projection_outliers(values, n_top=101, z=4.5)[2].tolist() == [9, 3]  # largest first


def test_outliers_ignore_scale_and_follow_the_vocabulary():
    values = torch.randn(4, 500, generator=torch.Generator().manual_seed(0)).exp()
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    plain = projection_outliers(values, n_top=100, z=3)
    scaled = projection_outliers(3 * values, n_top=100, z=3)
    moved = projection_outliers(values[:, order], n_top=100, z=3)
    for a, b, c in zip(plain, scaled, moved):
        assert a.tolist() == b.tolist() == order[c].tolist() != []


def test_what_cannot_be_split_is_refused():
    model, made = llama(), transcoders()
    with pytest.raises(ValueError, match="none of block 1"):
        feature_parts(model, {0: made[0], 2: made[2]}, IDS, 2, 0)
    with pytest.raises(ValueError, match="layer"):
        reading_directions(model, made[0], 7)
    with pytest.raises(ValueError, match="latent"):
        feature_parts(model, made, IDS, 1, LATENTS)
    with pytest.raises(ValueError, match="0 to 10"):
        feature_parts(model, made, IDS + 11, 1, 0)
    with pytest.raises(ValueError, match="norms behind its parts"):
        reading_directions(gemma2(), made[0], 0)
    with pytest.raises(ValueError, match="transcoder maps"):
        reading_directions(model, SparseDict(SAEConfig("topk", 8, 12, k=2, d_out=8)), 0)
