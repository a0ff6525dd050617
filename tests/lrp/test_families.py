"""Families of transformers beyond the Llama-like: fused and gated MLPs, experts, capped scores, encoder and decoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.lrp import CPLRP, AttnLRP, Epsilon, Gamma, attribute
from shared.lrp.transformers._experts import experts_forward
from shared.lrp.transformers._modules import _capped_attention, norm_forward

SMALL = dict(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, pad_token_id=0)
DECODER = dict(**SMALL, intermediate_size=48, num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)
CAPS = dict(final_logit_softcapping=3.0, attn_logit_softcapping=2.0)


def _build(family):
    import transformers as t

    models = {
        "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**DECODER, num_local_experts=4)),
        "qwen3_moe": lambda: t.Qwen3MoeForCausalLM(
            t.Qwen3MoeConfig(
                **DECODER,
                head_dim=8,
                num_experts=4,
                num_experts_per_tok=2,
                moe_intermediate_size=24,
                norm_topk_prob=True,
            )
        ),
        "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**DECODER)),
        "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**DECODER, head_dim=8, query_pre_attn_scalar=8, **CAPS)),
        "gemma3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**DECODER, head_dim=8, query_pre_attn_scalar=8)),
        "modernbert": lambda: t.ModernBertForMaskedLM(
            t.ModernBertConfig(
                **SMALL, intermediate_size=48, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2
            )
        ),
    }
    torch.manual_seed(0)
    model = models[family]()
    gain = 0.0 if "Gemma" in type(model).__name__ else 1.0
    for parameter in model.parameters():  # so that logits, gains and routes differ
        nn.init.normal_(parameter, gain if parameter.ndim == 1 else 0.0, 0.2)
    return model.eval()


FAMILIES = ["mixtral", "qwen3_moe", "phi3", "gemma2", "gemma3", "modernbert"]


def _biases(model):
    return [name for name, _ in model.named_parameters() if name.endswith("bias")]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("composite", [AttnLRP(), CPLRP(), AttnLRP(gamma_linear=0.1)], ids=["attnlrp", "cp", "gamma"])
def test_output_is_the_models_own(family, composite, token_ids):
    model = _build(family)
    logits = model(token_ids).logits[:, -1]
    result = attribute(model, token_ids, 1, composite=composite)
    assert torch.allclose(result.output, logits, atol=1e-4 * float(logits.abs().max()))
    assert torch.isfinite(result.relevance).all()
    assert (result.tokens != 0).any(1).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_cp_lrp_conserves(family, token_ids):
    """With patterns, gates and shares constant and no bias the network is linear in its embeddings."""
    model = _build(family)
    for name in _biases(model):
        nn.init.zeros_(model.get_parameter(name))
    result = attribute(model, token_ids, 3, composite=CPLRP())
    assert torch.allclose(result.tokens.sum(1), result.output[:, 3], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_alone_and_together(family, token_ids):
    model = _build(family)
    whole = attribute(model, token_ids, 2, composite=AttnLRP()).tokens
    rows = torch.cat([attribute(model, row[None], 2, composite=AttnLRP()).tokens for row in token_ids])
    assert torch.allclose(whole, rows, atol=1e-4 * float(whole.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_norms_compute_what_they_did(family):
    model = _build(family)
    seen = 0
    for module in model.modules():
        forward = norm_forward(module)
        if forward is not None:
            x = torch.randn(2, 3, module.weight.shape[0])
            assert torch.allclose(forward(x), module(x), atol=1e-5)
            seen += 1
    assert seen > 2


def test_experts_split_in_halves():
    """Half of what the experts give goes to the shares, half to what they read."""
    module = _build("mixtral").model.layers[0].mlp
    x = torch.randn(6, 32, requires_grad=True)
    shares = torch.rand(6, 2, requires_grad=True)
    picked = torch.stack([torch.randperm(4)[:2] for _ in range(6)])
    act = module.experts.act_fn
    act.forward = lambda z: z * torch.sigmoid(z).detach()  # the identity rule, as the composite sets it
    out = experts_forward(module.experts, "attnlrp", None)(x, picked, shares)
    assert torch.allclose(out, module.experts(x, picked, shares), atol=1e-5)
    c = torch.randn_like(out)
    to_x, to_shares = torch.autograd.grad(out, (x, shares), c)
    half = (out * c).sum(1) / 2
    assert torch.allclose((shares * to_shares).sum(1), half, rtol=1e-3, atol=1e-4)
    assert torch.allclose((x * to_x).sum(1), half, rtol=1e-3, atol=1e-4)  # both factors of the gated MLP together


@pytest.mark.parametrize("rule", [Epsilon(), Gamma()])
def test_experts_take_the_rule_of_dense_layers(rule):
    experts = _build("qwen3_moe").model.layers[0].mlp.experts
    x, shares = torch.randn(5, 32, requires_grad=True), torch.full((5, 2), 0.5)
    picked = torch.tensor([[0, 1]]).expand(5, -1)
    out = experts_forward(experts, "cp", rule)(x, picked, shares)
    assert torch.allclose(out, experts(x, picked, shares), atol=1e-5)


def test_a_high_cap_is_no_cap():
    q, k, v = (torch.randn(2, heads, 5, 8, dtype=torch.float64) for heads in (4, 2, 2))
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    out, _ = _capped_attention(q, k, v, mask, scaling=8**-0.5, softcap=1e9)
    wide = [t.repeat_interleave(2, 1) for t in (k, v)]
    expected = nn.functional.scaled_dot_product_attention(q, *wide, mask).transpose(1, 2)
    assert torch.allclose(out, expected, atol=1e-6)


@pytest.fixture
def t5():
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = dict(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2, num_heads=4, vocab_size=50)
    config = T5Config(**sizes, feed_forward_proj="gated-gelu", pad_token_id=0, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.2)
    return model


def test_t5_conserves_over_both_sides(t5, token_ids):
    """CP-LRP: what the encoder's and the decoder's tokens get adds up to the logit."""
    x = {"input_ids": token_ids, "decoder_input_ids": torch.tensor([[0, 7, 9]]).expand(len(token_ids), -1)}
    results = [attribute(t5, x, 4, composite=CPLRP(), wrt=key) for key in x]
    assert torch.allclose(results[0].output, t5(**x).logits[:, -1], atol=1e-5)
    total = sum(result.tokens.sum(1) for result in results)
    assert torch.allclose(total, results[0].output[:, 4], rtol=1e-3, atol=1e-5)
    assert results[1].tokens.shape == (len(token_ids), 3)


def test_t5_padding_gets_nothing_and_changes_nothing(t5, token_ids):
    start = torch.zeros(len(token_ids), 1, dtype=torch.long)
    plain = attribute(t5, {"input_ids": token_ids, "decoder_input_ids": start}, 4, composite=AttnLRP()).tokens
    padded = torch.cat([token_ids, torch.zeros(len(token_ids), 2, dtype=torch.long)], 1)
    x = {"input_ids": padded, "attention_mask": (padded > 0).long(), "decoder_input_ids": start}
    got = attribute(t5, x, 4, composite=AttnLRP()).tokens
    assert torch.allclose(got[:, :7], plain, atol=1e-5)
    assert (got[:, 7:] == 0).all()
