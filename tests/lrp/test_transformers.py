"""Transformers: the coefficient form against the explicit rules, applied operation by operation in relevance form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from shared.lrp import CPLRP, AttnLRP, Composite, Gamma, attribute
from shared.lrp.rules._functions import IdentityActivation, UniformProduct, scale_gradient, slope_at_zero

EPS = 1e-15


def split(part, total):
    """`part / total` with total kept away from 0."""
    return part / torch.where(total.abs() < EPS, torch.full_like(total, EPS), total)


class Explicit:
    """A tape of operations; each knows how to send relevance (not coefficients) to its inputs.

    Every rule is written as in AttnLRP (Achtibat et al. 2024): eq. 8 (linear), eq. 9 (activation), Props. 3.1-3.4.
    """

    def __init__(self, cp=False, gamma=0.0):
        self.cp, self.gamma, self.tape = cp, gamma, []
        self.relevance: dict[int, torch.Tensor] = {}
        self.keep: list[torch.Tensor] = []

    def _record(self, out, inputs, rule):
        out = out.detach().clone()  # its own identity
        self.keep.append(out)
        self.tape.append((out, inputs, rule))
        return out

    def jacobian_rule(self, function, x):
        """`R_x = x J^T (R / f(x))`: exact for linear maps; statistics detached inside `function`."""

        def rule(out, r):
            leaf = x.clone().requires_grad_()
            (v,) = torch.autograd.grad(function(leaf), leaf, split(r, out))
            return [x * v]

        return self._record(function(x), [x], rule)

    def linear(self, x, weight, bias=None):
        z = x @ weight.T + (0 if bias is None else bias)
        if not self.gamma:
            return self._record(z, [x], lambda out, r: [x * (split(r, out) @ weight)])
        gamma = self.gamma
        return self._record(z, [x], lambda out, r: [self._gamma(x, weight, bias, out, r, gamma)])

    @staticmethod
    def _gamma(x, weight, bias, z, r, gamma):
        parts = x[..., None, :] * weight  # (..., out, in)
        b = torch.zeros_like(z[..., 0, :]) if bias is None else bias
        positive, negative = parts.clamp(min=0), parts.clamp(max=0)
        up = z + gamma * (positive.sum(-1) + b.clamp(min=0))
        down = z + gamma * (negative.sum(-1) + b.clamp(max=0))
        wanted = torch.where((z > 0)[..., None], parts + gamma * positive, parts + gamma * negative)
        return (wanted * split(r, torch.where(z > 0, up, down) + 1e-6 * z.sign())[..., None]).sum(-2)

    def add(self, a, b):
        return self._record(a + b, [a, b], lambda out, r: [a * split(r, out), b * split(r, out)])

    def act(self, x, function):
        return self._record(function(x), [x], lambda _out, r: [r])

    def product(self, a, b):
        return self._record(a * b, [a, b], lambda _out, r: [0 * r, r] if self.cp else [r / 2, r / 2])

    def softmax(self, x):
        def rule(out, r):
            finite = torch.where(torch.isinf(x), torch.zeros_like(x), x)
            return [finite * (r - out * r.sum(-1, keepdim=True))]

        return self._record(torch.softmax(x, -1), [x], rule)

    def matmul(self, a, b, constant=False):
        share = 1.0 if constant else 0.5

        def rule(out, r):
            s = share * split(r, out)
            return [0 * a if constant else a * (s @ b.transpose(-1, -2)), b * (a.transpose(-1, -2) @ s)]

        return self._record(a @ b, [a, b], rule)

    def masked(self, scores, mask):
        return self._record(scores.masked_fill(~mask, -math.inf), [scores], lambda _out, r: [r.masked_fill(~mask, 0)])

    def explain(self, out, r, x):
        self.relevance[id(out)] = r
        for result, inputs, rule in self.tape[::-1]:
            arrived = self.relevance.get(id(result))
            if arrived is not None:
                for tensor, part in zip(inputs, rule(result, arrived)):
                    self.relevance[id(tensor)] = self.relevance.get(id(tensor), 0) + part
        return self.relevance[id(x)]


def attention(e, q, k, v, mask=None):
    scores = e.matmul(q, e.jacobian_rule(lambda t: t.transpose(-1, -2), k), constant=False)
    scores = e.jacobian_rule(lambda t: t / math.sqrt(q.shape[-1]), scores)
    weights = e.softmax(scores if mask is None else e.masked(scores, mask))
    return e.matmul(weights, v, constant=e.cp)


def heads(e, x, count, repeat=1):
    def shape(t):
        t = t.unflatten(-1, (count, -1)).transpose(1, 2)
        return t.repeat_interleave(repeat, 1)

    return e.jacobian_rule(shape, x)


def explicit_llama(model, ids, target, cp):
    """Relevance of the embeddings for the last position's logit."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    e, config = Explicit(cp), model.config
    x = h = model.get_input_embeddings()(ids).detach()
    cos, sin = model.model.rotary_emb(h, torch.arange(ids.shape[1])[None])
    mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()

    def norm(module, t):
        inverse = torch.rsqrt(t.float().pow(2).mean(-1, keepdim=True) + module.variance_epsilon)
        return e.jacobian_rule(lambda u: module.weight.detach() * (u.float() * inverse).double(), t)

    def rotate(t):
        return e.jacobian_rule(lambda u: apply_rotary_pos_emb(u, u, cos, sin)[0], t)

    for layer in model.model.layers:
        a, n = layer.self_attn, norm(layer.input_layernorm, h)
        groups = config.num_attention_heads // config.num_key_value_heads
        q = rotate(heads(e, e.linear(n, a.q_proj.weight.detach()), config.num_attention_heads))
        k = rotate(heads(e, e.linear(n, a.k_proj.weight.detach()), config.num_key_value_heads, groups))
        v = heads(e, e.linear(n, a.v_proj.weight.detach()), config.num_key_value_heads, groups)
        o = e.jacobian_rule(lambda t: t.transpose(1, 2).flatten(2), attention(e, q, k, v, mask))
        h = e.add(h, e.linear(o, a.o_proj.weight.detach()))
        m, n = layer.mlp, norm(layer.post_attention_layernorm, h)
        gate = e.act(e.linear(n, m.gate_proj.weight.detach()), nn.functional.silu)
        gated = e.product(gate, e.linear(n, m.up_proj.weight.detach()))
        h = e.add(h, e.linear(gated, m.down_proj.weight.detach()))
    logits = e.linear(norm(model.model.norm, h), model.lm_head.weight.detach())
    r = torch.zeros_like(logits)
    r[:, -1, target] = logits[:, -1, target]
    return logits, e.explain(logits, r, x)


@pytest.mark.parametrize("cp", [False, True], ids=["attnlrp", "cp"])
def test_llama_equals_the_explicit_rules(cp, make_llama, token_ids):
    model = make_llama(initializer_range=0.2).double()
    logits, expected = explicit_llama(model, token_ids, 5, cp)
    ours = attribute(model, token_ids, 5, composite=CPLRP() if cp else AttnLRP())
    assert torch.allclose(ours.output, logits[:, -1], atol=1e-6)
    assert (ours.relevance - expected).abs().max() < 1e-6 * expected.abs().max()


def explicit_vit(model, x, target, cp, gamma):
    e, vit = Explicit(cp, gamma), model.vit
    embedding = vit.embeddings
    conv = embedding.patch_embeddings.projection
    patch = conv.kernel_size[0]
    cut = x.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    flat = cut.contiguous()  # (B, patches, C * p * p): the patch convolution as a dense layer
    e.gamma, later = 0.25 if gamma else 0.0, gamma
    patches = e.linear(flat, conv.weight.detach().flatten(1), conv.bias.detach())
    e.gamma = later
    start = embedding.cls_token.detach().expand(len(x), -1, -1)
    h = e.jacobian_rule(lambda t: torch.cat([start, t], 1) + embedding.position_embeddings.detach(), patches)

    def norm(module, t):
        inverse = torch.rsqrt(t.var(-1, unbiased=False, keepdim=True) + module.eps)
        weight, bias = module.weight.detach(), module.bias.detach()
        return e.jacobian_rule(lambda u: (u - u.mean(-1, keepdim=True)) * inverse * weight + bias, t)

    def dense(module, t):
        return e.linear(t, module.weight.detach(), module.bias.detach())

    for layer in vit.layers:
        a, n = layer.attention, norm(layer.layernorm_before, h)
        q, k, v = (heads(e, dense(m, n), 4) for m in (a.q_proj, a.k_proj, a.v_proj))
        o = e.jacobian_rule(lambda t: t.transpose(1, 2).flatten(2), attention(e, q, k, v))
        h = e.add(h, dense(a.o_proj, o))
        hidden = e.act(dense(layer.mlp.fc1, norm(layer.layernorm_after, h)), nn.functional.gelu)
        h = e.add(h, dense(layer.mlp.fc2, hidden))
    first = e.jacobian_rule(lambda t: t[:, 0], norm(vit.layernorm, h))
    logits = dense(model.classifier, first)
    r = torch.zeros_like(logits)
    r[:, target] = logits[:, target]
    return logits, e.explain(logits, r, flat).unflatten(2, (3, patch, patch))


@pytest.mark.parametrize("gamma", [0.0, 0.1])
@pytest.mark.parametrize("cp", [False, True], ids=["attnlrp", "cp"])
def test_vit_equals_the_explicit_rules(cp, gamma, make_vit):
    model = make_vit(initializer_range=0.2).double()
    for name, parameter in model.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter, 0, 0.1)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    logits, expected = explicit_vit(model, x, 2, cp, gamma)
    composite = (CPLRP if cp else AttnLRP)(gamma_linear=gamma, gamma_conv=0.25 if gamma else 0.0)
    ours = attribute(model, x, 2, composite=composite)
    assert torch.allclose(ours.output, logits, atol=1e-9)
    patches = ours.relevance.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    assert (patches - expected).abs().max() < 1e-6 * expected.abs().max()


# --- local laws


def test_halves_at_products():
    a, b = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    c = torch.randn(3, 4, dtype=torch.float64)
    out = UniformProduct.apply(a, b)
    to_a, to_b = torch.autograd.grad(out, (a, b), c)
    half = (out * c).sum() / 2
    assert torch.allclose((a * to_a).sum(), half)
    assert torch.allclose((b * to_b).sum(), half)


def test_softmax_leak():
    """`sum R_x = sum x R_out - (sum x s)(sum R_out)`: AttnLRP does not conserve at the softmax."""
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    s = torch.softmax(x, -1)
    c = torch.randn(5, 7, dtype=torch.float64)
    (grad,) = torch.autograd.grad(s, x, c)
    r = s * c
    expected = (x * r).sum(-1) - (x * s).sum(-1) * r.sum(-1)
    assert torch.allclose((x * grad).sum(-1), expected)


def test_quarters_at_query_and_key():
    """Two bilinear products in a row leave a quarter at q and at k, a half at v."""
    q, k, v = (torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    scaled = scale_gradient(q * 1, 0.25), scale_gradient(k * 1, 0.25), scale_gradient(v * 1, 0.5)
    out = (scaled[0] @ scaled[1].transpose(1, 2)) @ scaled[2]
    c = torch.randn_like(out)
    parts = [(t * g).sum() / (out * c).sum() for t, g in zip((q, k, v), torch.autograd.grad(out, (q, k, v), c))]
    assert torch.allclose(torch.stack(parts), torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU(), nn.ReLU6(), nn.Hardswish(), nn.Tanh(), nn.Sigmoid()])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_identity_rule_keeps_relevance(activation, dtype):
    x = torch.tensor([-40.0, -7.0, -1.0, -1e-6, 0.0, 1e-7, 0.5, 3.0, 7.0, 40.0], dtype=dtype, requires_grad=True)
    y = IdentityActivation.apply(x, activation, slope_at_zero(activation, x))
    (c,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert torch.isfinite(c).all()
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6}.get(dtype, 1e-2)
    nonzero = x.detach().abs() > (1e-4 if dtype is torch.float16 else 0)  # float16 can't hold 0.5 / 1e-6
    assert torch.allclose((x * c)[nonzero].double(), y[nonzero].double(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("activation", "slope"),
    [(nn.GELU(), 0.5), (nn.SiLU(), 0.5), (nn.Tanh(), 1.0), (nn.Hardswish(), 0.5), (nn.Sigmoid(), 0.0), (nn.ELU(), 1.0)],
)
def test_slope_at_zero(activation, slope):
    assert abs(slope_at_zero(activation, torch.zeros(1)) - slope) < 1e-6


def test_relu6_above_six_is_six_over_x():
    model = nn.Sequential(nn.ReLU6(), nn.Flatten(0)).eval()
    result = attribute(model, torch.tensor([[9.0]]), None, composite=Composite([]))
    assert torch.allclose(result.relevance, torch.tensor([[6.0]]))


# --- families, precision, memory


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "mistral", "gpt2", "opt", "bert"])
@pytest.mark.parametrize("composite", [AttnLRP(), CPLRP(), AttnLRP(gamma_linear=0.1)], ids=["attnlrp", "cp", "gamma"])
def test_families(family, composite, token_ids):
    model = build_family(family)
    logits = model(token_ids).logits
    result = attribute(
        model, {"input_ids": token_ids, "attention_mask": torch.ones_like(token_ids)}, 1, composite=composite
    )
    assert torch.allclose(result.output, logits[:, -1] if logits.ndim == 3 else logits, atol=1e-5)
    assert result.tokens.shape == token_ids.shape
    assert torch.isfinite(result.relevance).all()
    assert (result.relevance != 0).any()


def build_family(family):
    import transformers as t

    small = dict(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, pad_token_id=0)
    llama_like = dict(**small, intermediate_size=48, num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
    models = {
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**llama_like)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**llama_like, head_dim=8)),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**llama_like)),
        "gpt2": lambda: t.GPT2LMHeadModel(
            t.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
        ),
        "opt": lambda: t.OPTForCausalLM(
            t.OPTConfig(**small, ffn_dim=48, word_embed_proj_dim=32, bos_token_id=1, eos_token_id=2)
        ),
        "bert": lambda: t.BertForSequenceClassification(t.BertConfig(**small, intermediate_size=48)),
    }
    return models[family]().eval()


@pytest.mark.parametrize("composite", [AttnLRP(), CPLRP()], ids=["attnlrp", "cp"])
def test_bfloat16(composite, make_llama, token_ids):
    model = make_llama(initializer_range=0.2)
    exact = attribute(model, token_ids, 5, composite=composite)
    half = attribute(model.bfloat16(), token_ids, 5, composite=composite)
    assert half.relevance.dtype == torch.float32
    assert (half.tokens - exact.tokens).abs().max() < 0.1 * exact.tokens.abs().max()


def test_gradient_checkpointing_changes_nothing(make_llama, token_ids):
    model = make_llama(attention_dropout=0.0).double()
    options = dict(target=5, composite=AttnLRP(gamma_linear=0.1), record=["model.layers.0.mlp"])
    plain = attribute(model, token_ids, **options)
    model.activation_checkpointing_enable()
    model.train()
    checkpointed = attribute(model, token_ids, **options)
    assert torch.allclose(plain.relevance, checkpointed.relevance, atol=1e-14)
    assert torch.allclose(plain.latent["model.layers.0.mlp"], checkpointed.latent["model.layers.0.mlp"], atol=1e-14)


def test_embeddings_position_and_last_token_logits(make_llama, token_ids):
    model = make_llama().double()
    embeds = model.get_input_embeddings()(token_ids).detach()
    by_ids = attribute(model, token_ids, 5, composite=AttnLRP())
    assert torch.equal(by_ids.relevance, attribute(model, embeds, 5, composite=AttnLRP(), embed=True).relevance)
    assert torch.equal(by_ids.relevance, attribute(model, {"inputs_embeds": embeds}, 5, composite=AttnLRP()).relevance)
    full = attribute(model, token_ids, 5, composite=AttnLRP(), position=-1)
    assert torch.allclose(by_ids.relevance, full.relevance, atol=1e-12)
    early = attribute(model, token_ids, 5, composite=AttnLRP(), position=torch.tensor([1, 2, 3]))
    assert all((row[p + 1 :] == 0).all() and (row[p] != 0).any() for row, p in zip(early.tokens, (1, 2, 3)))


def test_scaling_values_up_and_projection_down_changes_nothing(make_llama, token_ids):
    model = make_llama().double()
    before = attribute(model, token_ids, 5, composite=AttnLRP()).relevance
    attn = model.model.layers[0].self_attn
    with torch.no_grad():
        attn.v_proj.weight *= 4
        attn.o_proj.weight /= 4
    assert torch.allclose(attribute(model, token_ids, 5, composite=AttnLRP()).relevance, before, atol=1e-7)


def test_gamma_in_vit_reaches_the_patch_convolution(make_vit):
    model, x = make_vit(), torch.randn(2, 3, 16, 16)
    plain = attribute(model, x, 1, composite=AttnLRP()).relevance
    by_name = AttnLRP(name_map=[("vit.embeddings.patch_embeddings.projection", Gamma(0.25))])
    assert not torch.allclose(plain, attribute(model, x, 1, composite=by_name).relevance)
    assert torch.equal(
        attribute(model, x, 1, composite=by_name).relevance,
        attribute(model, x, 1, composite=AttnLRP(gamma_conv=0.25)).relevance,
    )
