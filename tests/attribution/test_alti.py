"""ALTI-Logit: from its equations token by token, from the authors' code (golden arrays), invariants, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as t
from torch import nn

from shared.attribution import alti_logit
from shared.attribution._alti import mix
from shared.hooks import attention_modules
from shared.lrp import UnsupportedModule, attribute, contrast

GOLDEN = Path(__file__).parents[1] / "golden" / "alti_gpt2.npz"
SIZES = dict(vocab_size=40, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, pad_token_id=0)
FAMILIES = ("llama", "gpt2", "bert")


def build(family, **changes):
    """A tiny model with every parameter random, in float64."""
    ends = dict(bos_token_id=1, eos_token_id=2)
    if family == "llama":
        config = dict(**SIZES, **ends, intermediate_size=32, num_key_value_heads=2, attention_bias=True)
        model = t.LlamaForCausalLM(t.LlamaConfig(**{**config, **changes}))
    elif family == "gpt2":
        config = dict(vocab_size=40, n_embd=24, n_layer=3, n_head=4, n_positions=16)
        model = t.GPT2LMHeadModel(t.GPT2Config(**{**config, **ends, **changes}))
    else:
        model = t.BertForMaskedLM(t.BertConfig(**{**SIZES, "intermediate_size": 32, **changes}))
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, 1.0 if "orm.weight" in name or "ln_" in name else 0.0, 0.3)
    return model.double().eval()


@pytest.fixture(params=FAMILIES)
def model(request):
    return build(request.param)


@pytest.fixture
def ids():
    return torch.randint(3, 40, (3, 6))


# --- the slow way: one sentence, every vector by itself, pushed up through everything above it


class Norm:
    """A norm of the model: its true output, and the linear map with the statistic of `x`."""

    def __init__(self, module):
        self.module, self.bias = module, getattr(module, "bias", None)
        self.bias = 0.0 if self.bias is None else self.bias
        self.centre = isinstance(module, nn.LayerNorm)

    def linear(self, v, x):
        if self.centre:
            return self.module.weight * (v - v.mean()) / torch.sqrt(x.var(unbiased=False) + self.module.eps)
        return self.module.weight * v / torch.sqrt((x**2).mean() + self.module.variance_epsilon)

    def __call__(self, x):
        return self.linear(x, x) + self.bias


def parts(model, n):
    """Of block n: W_V (D, Hkv, d), b_V, W_O (H, d, D), b_O, the MLP as a function, and the two norms."""
    family = type(model).__name__
    if family == "LlamaForCausalLM":
        block, heads, groups = model.model.layers[n], 4, 2
        value, out, mlp = block.self_attn.v_proj, block.self_attn.o_proj, block.mlp
        norms = Norm(block.input_layernorm), Norm(block.post_attention_layernorm)
        w_v, b_v = value.weight.T, value.bias
        w_o, b_o = out.weight.T, out.bias
    elif family == "GPT2LMHeadModel":
        block, heads, groups = model.transformer.h[n], 4, 4
        w_v, b_v = block.attn.c_attn.weight[:, 48:], block.attn.c_attn.bias[48:]
        w_o, b_o = block.attn.c_proj.weight, block.attn.c_proj.bias
        norms, mlp = (Norm(block.ln_1), Norm(block.ln_2)), block.mlp
    else:
        block, heads, groups = model.bert.encoder.layer[n], 4, 4
        value, out = block.attention.self.value, block.attention.output.dense
        w_v, b_v, w_o, b_o = value.weight.T, value.bias, out.weight.T, out.bias
        norms = Norm(block.attention.output.LayerNorm), Norm(block.output.LayerNorm)

        def mlp(x):
            return block.output.dense(block.intermediate(x))

    w_v, b_v = w_v.reshape(24, groups, 6), b_v.reshape(groups, 6)
    return w_v, b_v, w_o.reshape(heads, 6, 24), b_o, mlp, norms, heads // groups


@torch.no_grad()
def slowly(model, ids, weights, position, linear=False):
    """ALTI-Logit of one sentence (S,) by loops over blocks, positions, sources and heads, from the weights."""
    post = isinstance(model, t.BertForMaskedLM)
    model.set_attn_implementation("eager")
    out = model(ids[None], output_hidden_states=True, output_attentions=True)
    stream = list(out.hidden_states[0][0])
    size, layers = len(ids), []
    for n, pattern in enumerate(out.attentions):
        w_v, b_v, w_o, b_o, mlp, (first, second), group = parts(model, n)
        vectors = [[torch.zeros(24, dtype=torch.float64) for _ in range(size)] for _ in range(size)]
        plain = [[torch.zeros(24, dtype=torch.float64) for _ in range(size)] for _ in range(size)]
        for p in range(size):
            for j in range(size):
                source = stream[j] if post else first.linear(stream[j], stream[j])
                constant = 0.0 if post else first.bias
                for h in range(4):
                    w = w_v[:, h // group]
                    bias = (constant @ w if torch.is_tensor(constant) else 0.0) + b_v[h // group]
                    vectors[p][j] = vectors[p][j] + pattern[0, h, p, j] * ((source @ w + bias) @ w_o[h])
                    plain[p][j] = plain[p][j] + pattern[0, h, p, j] * ((source @ w) @ w_o[h])
        middle = [stream[p] + sum(vectors[p]) + b_o for p in range(size)]
        near = torch.zeros(size, size, dtype=torch.float64)
        for p in range(size):
            whole = first(middle[p]) if post else middle[p]
            for j in range(size):
                part = vectors[p][j] + (stream[p] if p == j else 0.0)
                part = first.linear(part, middle[p]) if post else part
                near[p, j] = max(0.0, (whole.abs().sum() - (whole - part).abs().sum()).item())
        total = near.sum(1, keepdim=True)
        mixing = torch.where(total > 0, near / total, torch.eye(size, dtype=torch.float64))
        if post:
            inside = [first(m) for m in middle]
            added = [mlp(x) for x in inside]
            before = [x + a for x, a in zip(inside, added)]
            after = [second(b) for b in before]
        else:
            added = [mlp(second(m)) for m in middle]
            before = [None] * size
            after = [m + a for m, a in zip(middle, added)]
        layers.append((plain if linear else vectors, mixing, middle, added, before, (first, second)))
        stream = after

    def top(v):
        """What a vector in the last block's output at the position contributes to the explained logit."""
        if not post:
            final = Norm(model.model.norm if hasattr(model, "model") else model.transformer.ln_f)
            return weights @ (model.lm_head.weight @ final.linear(v, stream[position]))
        head = model.cls.predictions.transform
        z = head.dense(stream[position])
        active = head.transform_act_fn(z)
        v = (head.dense.weight @ v) * active / z
        return weights @ (model.cls.predictions.decoder.weight @ Norm(head.LayerNorm).linear(v, active))

    def up(v, n, inside=False):
        """The contribution of a vector that joins the stream in block n (`inside`: behind its first norm)."""
        for k in range(n, len(layers)):
            _, _, middle, _, before, (first, second) = layers[k]
            if post:
                v = v if inside and k == n else first.linear(v, middle[position])
                v = second.linear(v, before[position])
        return top(v)

    tokens, flow = torch.zeros(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64)
    for n, (vectors, mixing, *_) in enumerate(layers):
        update = torch.stack([up(vectors[position][j], n) for j in range(size)])
        tokens, flow = tokens + update @ flow, mixing @ flow
    return {
        "tokens": tokens,
        "initial": up(out.hidden_states[0][0, position], 0),
        "mlps": torch.stack([up(layer[3][position], n, inside=True) for n, layer in enumerate(layers)]),
        "mixing": torch.stack([layer[1] for layer in layers]),
        "logits": out.logits[0, position],
    }


@pytest.mark.parametrize("linear", [False, True], ids=["affine", "linear"])
def test_against_loops_over_tokens_and_heads(model, ids, linear):
    position = 3 if isinstance(model, t.BertForMaskedLM) else 5
    weights = torch.zeros(40, dtype=torch.float64)
    weights[7], weights[11] = 1.0, -1.0
    want = slowly(model, ids[0], weights, position, linear)
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        got = alti_logit(model, ids, contrast(7, 11), position=position, linear=linear)
        assert torch.allclose(got.output[0], want["logits"], atol=1e-6)
        for name in ("tokens", "initial", "mlps", "mixing"):
            assert torch.allclose(getattr(got, name)[0], want[name], atol=2e-6), name


def test_agrees_with_the_authors_code():
    with np.load(GOLDEN, allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    model = build("gpt2", vocab_size=20, n_embd=16)
    state = {key.removeprefix("state."): value for key, value in arrays.items() if key.startswith("state.")}
    model.load_state_dict(state)
    for column, target in enumerate((3, 11)):
        for name, linear in (("aff", False), ("lin", True)):
            got = alti_logit(model, arrays["ids"], target, linear=linear)
            want = arrays[name][:, column]
            assert (got.tokens - want).abs().max() < 1e-5 * want.abs().max()
            assert (got.mixing - arrays["mixing"]).abs().max() < 5e-5  # theirs: float32, distances with 1e-6 added
            assert torch.allclose(got.initial, arrays["initial"][:, column].double(), atol=1e-6)
            assert torch.allclose(got.mlps, arrays["mlps"][:, :, column].double(), atol=1e-6)
            if not linear:
                assert torch.allclose(got.biases, arrays["biases"][:, column].double(), atol=1e-6)


# --- invariants


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("linear", [False, True], ids=["affine", "linear"])
def test_everything_sums_to_the_logit(model, ids, linear, norm):
    got = alti_logit(model, ids, torch.tensor([3, 8, 20]), linear=linear, norm=norm)
    assert torch.allclose(got.explained, got.output.gather(1, torch.tensor([[3], [8], [20]])).flatten())
    assert got.gap.abs().max() < 1e-6
    assert got.error.max() < 1e-6
    assert got.tokens.abs().max() > 1e-3


def test_mixing_is_stochastic_and_causal(model, ids):
    got = alti_logit(model, ids)
    for matrices in (got.mixing, got.rollout):
        assert (matrices >= 0).all()
        assert torch.allclose(matrices.sum(-1), torch.ones(()).double())
        if not isinstance(model, t.BertForMaskedLM):
            assert torch.equal(matrices, matrices.tril())
    led_back = got.updates[:, 0] + torch.einsum("blj,blji->bi", got.updates[:, 1:], got.rollout[:, :-1])
    assert torch.allclose(got.tokens, led_back)


def test_linear_in_the_target(model, ids):
    one, other = alti_logit(model, ids, 7), alti_logit(model, ids, 11)
    assert torch.allclose(alti_logit(model, ids, contrast(7, 11)).tokens, one.tokens - other.tokens)
    assert torch.allclose(alti_logit(model, ids, contrast(11, 7)).tokens, other.tokens - one.tokens)


def test_a_batch_is_its_rows(model, ids):
    together = alti_logit(model, ids, 5, position=torch.tensor([2, 5, 4]))
    for row, position in enumerate((2, 5, 4)):
        alone = alti_logit(model, ids[row : row + 1], 5, position=position)
        assert torch.allclose(together.tokens[row], alone.tokens[0], atol=1e-10)


def test_left_padding_gets_nothing_and_changes_nothing(ids):
    model = build("llama")
    padded = torch.cat([torch.zeros(3, 2, dtype=torch.long), ids], 1)
    mask = (torch.arange(8) >= 2).long().expand(3, -1)
    got = alti_logit(model, {"input_ids": padded, "attention_mask": mask}, 5)
    assert (got.tokens[:, :2] == 0).all()
    assert torch.allclose(got.tokens[:, 2:], alti_logit(model, ids, 5).tokens, atol=1e-6)


def test_embeddings_in_place_of_ids(ids):
    model = build("llama")
    embeds = model.get_input_embeddings()(ids).detach()
    assert torch.equal(alti_logit(model, {"inputs_embeds": embeds}, 5).tokens, alti_logit(model, ids, 5).tokens)


def test_attention_alone_leaves_nothing_but_tokens_and_the_own_embedding(ids):
    model = build("llama", num_hidden_layers=1, attention_bias=False)
    nn.init.zeros_(model.model.layers[0].mlp.down_proj.weight)
    got = alti_logit(model, ids, 5)
    assert (got.mlps == 0).all()
    assert (got.biases == 0).all()
    assert torch.allclose(got.tokens.sum(1) + got.initial, got.explained, atol=1e-6)


def blind_gpt2():
    """One layer without positions, attending everywhere alike."""
    model = build("gpt2", n_layer=1)
    nn.init.zeros_(model.transformer.wpe.weight)
    with torch.no_grad():
        model.transformer.h[0].attn.c_attn.weight[:, :48] = 0
        model.transformer.h[0].attn.c_attn.bias[:48] = 0
    return model


def test_equal_tokens_under_uniform_attention_score_alike():
    got = alti_logit(blind_gpt2(), torch.full((1, 6), 9), 5)
    assert torch.allclose(got.tokens, got.tokens[:, :1].expand(1, 6))


def test_swapped_tokens_swap_scores(ids):
    model, order = blind_gpt2(), torch.tensor([1, 0, 2, 4, 3, 5])
    assert torch.allclose(alti_logit(model, ids[:, order], 5).tokens, alti_logit(model, ids, 5).tokens[:, order])


def test_a_row_that_nothing_explains_stays_with_itself():
    pull = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [-3.0, 0.0]]]])  # at position 1 they cancel
    got = mix(pull, torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.ones(1, 1, 2, 2), None, 1)
    assert torch.equal(got, torch.eye(2)[None])


def test_model_comes_back_as_it_was(model, ids):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    implementations = [m.config._attn_implementation for m in attention_modules(model).values()]
    plain = model(ids).logits
    alti_logit(model, ids, 5)
    with pytest.raises(ValueError, match="out of range"):
        alti_logit(model, ids, 40)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert [m.config._attn_implementation for m in attention_modules(model).values()] == implementations
    assert torch.equal(model(ids).logits, plain)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_bfloat16_is_decomposed_in_float32(ids):
    model = build("llama")
    exact = alti_logit(model, ids, 5).tokens
    got = alti_logit(model.bfloat16(), ids, 5)
    assert got.tokens.dtype == torch.float32
    assert (got.tokens - exact).abs().max() < 0.1 * exact.abs().max()


# --- bad input


def test_bad_input_is_named(model, ids):
    with pytest.raises(ValueError, match=r"target=40 is out of range for 40 classes"):
        alti_logit(model, ids, 40)
    with pytest.raises(ValueError, match=r"foil=40 is out of range for 40 classes"):
        alti_logit(model, ids, contrast(3, 40))
    with pytest.raises(ValueError, match="position=6 is out of range for a sequence of 6"):
        alti_logit(model, ids, 3, position=6)
    with pytest.raises(ValueError, match="norm=3 is unknown"):
        alti_logit(model, ids, 3, norm=3)
    with pytest.raises(TypeError, match="x must be a tensor or a mapping"):
        alti_logit(model, "The keys", 3)


@pytest.mark.parametrize("explain", [alti_logit, attribute])
@pytest.mark.parametrize("family", FAMILIES)
def test_prompt_longer_than_the_context(family, explain):
    model = build(family, **{"n_positions" if family == "gpt2" else "max_position_embeddings": 8})
    explain(model, torch.full((1, 8), 5), 3, position=7)
    with pytest.raises(ValueError, match=rf"x has 9 tokens; {type(model).__name__} reads at most 8"):
        explain(model, torch.full((1, 9), 5), 3, position=8)
    embeds = torch.zeros(1, 9, 24, dtype=torch.float64)
    with pytest.raises(ValueError, match="x has 9 tokens"):
        explain(model, {"inputs_embeds": embeds}, 3, position=8)


def test_other_architectures_and_train_mode(ids, make_vit):
    with pytest.raises(UnsupportedModule, match="ALTI-Logit in ViTForImageClassification; supported: BertForMaskedLM"):
        alti_logit(make_vit(), torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        alti_logit(build("gpt2").train(), ids, 3)
    model = build("llama")
    model.model.norm = nn.Identity()
    with pytest.raises(UnsupportedModule, match=r"the normalisation in Identity at 'model.norm'"):
        alti_logit(model, ids, 3)
