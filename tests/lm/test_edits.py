"""Attention edits against a slow re-implementation, by hand, under caches, and what they refuse."""

from __future__ import annotations

import pytest
import torch
import transformers

from shared.lm import AttentionNotAvailable, attention_maps, edit_attention
from tests.lm.test_guided import gpt2, llama, prompts, qwen


def marked(x, *places):
    keys = torch.zeros_like(x["input_ids"], dtype=torch.bool)
    keys[:, list(places)] = True
    return keys


def plain_maps(model, x):
    """Transformers' own, mean over heads, by block."""
    return [maps.mean(1) for maps in model(**x, output_attentions=True).attentions]


def eager(model):
    model.set_attn_implementation("eager")
    return model


@pytest.mark.parametrize("make", [llama, qwen, gpt2])
@pytest.mark.parametrize("prepare", [lambda model: model, eager], ids=["sdpa", "eager"])
def test_no_edit_is_the_model(make, prepare):
    model = prepare(make())
    x, _ = prompts()
    layers = range(2)
    with torch.no_grad():
        plain = model(**x).logits
        with edit_attention(model, layers, marked(x, 4), gamma=1.0):
            same = model(**x).logits
        with edit_attention(model, layers, marked(x, 4), min_weight=1.0):
            above = model(**x).logits
        with edit_attention(model, layers, marked(x, 4), gamma=0.9):
            other = model(**x).logits
        again = model(**x).logits
    real = x["attention_mask"].bool()
    torch.testing.assert_close(same[real], plain[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(above[real], plain[real], atol=1e-5, rtol=1e-5)
    assert (other[:, -1] - plain[:, -1]).abs().max() > 1e-4
    assert torch.equal(again, plain)


def test_rows_sum_to_one_and_marked_keys_get_nothing():
    model = eager(llama())
    x, _ = prompts()
    with torch.no_grad():
        plain = model(**x, output_hidden_states=True)
        with (
            attention_maps(model, [0, 1]) as before,
            edit_attention(model, [1], marked(x, 4, 6)) as edit,
            attention_maps(model, [0, 1]) as maps,
        ):
            out = model(**x, output_hidden_states=True)
    assert set(maps) == {0, 1}
    assert maps[1][0].shape == (3, 9, 9)
    torch.testing.assert_close(maps[1][0].sum(-1)[1:], torch.ones(2, 9))
    assert maps[1][0][1:, :, [4, 6]].max() == 0 < maps[0][0][1:, :, [4, 6]].max()
    torch.testing.assert_close(before[1][0], plain_maps(model, x)[1], atol=1e-5, rtol=1e-4)
    expected = before[1][0][:, :, [4, 6]].sum(-1)
    torch.testing.assert_close(edit.removed[1][0][1:], expected[1:], atol=1e-5, rtol=1e-4)
    for number in (0, 1):  # up to the edited block, and before the first marked key, nothing changes
        torch.testing.assert_close(out.hidden_states[number], plain.hidden_states[number])
    torch.testing.assert_close(out.logits[1:, :4], plain.logits[1:, :4], atol=1e-5, rtol=1e-5)
    assert (out.logits[1:, 4:] - plain.logits[1:, 4:]).abs().amax(-1).min() > 1e-6


def test_against_the_loop():
    """One Llama block's attention, head by head with its grouped keys, weights scaled and made to sum to one."""
    model = llama()
    x = {"input_ids": prompts()[0]["input_ids"][1:]}
    seen = {}
    module = model.model.layers[1].self_attn
    handle = module.o_proj.register_forward_pre_hook(lambda _m, args: seen.update(heads=args[0]))
    block = module.register_forward_pre_hook(lambda _m, _a, kwargs: seen.update(kwargs), with_kwargs=True)
    with torch.no_grad(), edit_attention(model, [1], marked(x, 3, 5), gamma=0.25, min_weight=0.1):
        model(**x)
    handle.remove(), block.remove()
    h, (cos, sin) = seen["hidden_states"], seen["position_embeddings"]

    def turned(v):
        a, b = v.chunk(2, -1)
        return v * cos[0] + torch.cat([-b, a], -1) * sin[0]

    for row in range(2):
        for head in range(4):
            q = turned(module.q_proj(h[row])[:, 8 * head : 8 * head + 8])
            kv = 8 * (head // 2)
            k, v = turned(module.k_proj(h[row])[:, kv : kv + 8]), module.v_proj(h[row])[:, kv : kv + 8]
            for query in range(9):
                w = (k[: query + 1] @ q[query] / 8**0.5).softmax(0)
                w = torch.stack([a * 0.25 if j in (3, 5) and a > 0.1 else a for j, a in enumerate(w)])
                expected = (w / w.sum()) @ v[: query + 1]
                torch.testing.assert_close(
                    seen["heads"][row, query, 8 * head : 8 * head + 8], expected, atol=1e-5, rtol=1e-4
                )


@pytest.mark.parametrize("make", [llama, gpt2])
def test_a_cached_step_is_a_whole_pass(make):
    model = make()
    x, _ = prompts()
    keys = marked(x, 4, 5)
    more = torch.randint(5, 50, (3, 2), generator=torch.Generator().manual_seed(2))
    mask = torch.cat([x["attention_mask"], torch.ones_like(more)], 1)
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad(), edit_attention(model, [0, 1], keys):
        whole = model(torch.cat([x["input_ids"], more], 1), attention_mask=mask, position_ids=places).logits[:, -1]
        out = model(**x, position_ids=places[:, :9], use_cache=True)
        for step in range(2):
            out = model(
                more[:, step : step + 1],
                attention_mask=mask[:, : 10 + step],
                position_ids=places[:, 9 + step : 10 + step],
                past_key_values=out.past_key_values,
            )
    torch.testing.assert_close(out.logits[:, -1], whole, atol=1e-4, rtol=1e-4)


def test_the_last_query_alone():
    model = llama()
    x = {"input_ids": prompts()[0]["input_ids"]}
    with torch.no_grad():
        plain = model(**x).logits
        with edit_attention(model, [0, 1, 2], marked(x, 3), queries="last"):
            last = model(**x).logits
    torch.testing.assert_close(last[:, :-1], plain[:, :-1], atol=1e-5, rtol=1e-5)
    assert (last[:, -1] - plain[:, -1]).abs().max() > 1e-4


def test_no_row_is_emptied():
    model = llama()
    x = {"input_ids": prompts()[0]["input_ids"]}
    everything = torch.ones_like(x["input_ids"], dtype=torch.bool)
    with torch.no_grad():
        plain = model(**x).logits
        with edit_attention(model, [0], everything) as edit:
            same = model(**x).logits
    torch.testing.assert_close(same, plain, atol=1e-5, rtol=1e-5)
    assert edit.emptied == 3 * 4 * 9  # every row, head and query


def test_a_marked_key_has_no_influence_left():
    model = llama()
    x, _ = prompts()
    embedded = model.get_input_embeddings()(x["input_ids"][1:]).detach().requires_grad_()
    with edit_attention(model, [0, 1, 2], marked(x, 4)[1:]):
        model(inputs_embeds=embedded).logits[:, -1].sum().backward()
    sizes = embedded.grad.abs().amax(-1)
    assert sizes[:, 4].max() < 1e-4 * sizes[:, [3, 5]].min()


def test_what_is_refused():
    model = llama()
    x, _ = prompts()
    keys = marked(x, 4)
    for message, given in {
        r"layers=\[3\]; accepted: at least one block from 0 to 2": {"layers": [3]},
        r"layers=\[\]": {"layers": []},
        "gamma=2": {"gamma": 2},
        "min_weight=-1": {"min_weight": -1},
        "queries='first'; accepted: 'all' or 'last'": {"queries": "first"},
        "keys has shape .3, 9. and type torch.int64; accepted: bool": {"keys": keys.long()},
    }.items():
        arguments = {"layers": [0], "keys": keys} | given
        with pytest.raises(ValueError, match=message), edit_attention(model, **arguments):
            pass
    with (
        pytest.raises(ValueError, match="keys has 2 rows; the model was given 3"),
        edit_attention(model, [0], keys[1:]),
    ):
        model(**x)
    assert torch.isfinite(model(**x).logits).all()  # all undone after an error


def test_attention_without_weights_and_unknown_architectures_are_named():
    model = llama()
    model.config._attn_implementation_internal = "flash_attention_2"
    keys = torch.zeros(1, 3, dtype=torch.bool)
    with (
        pytest.raises(
            AttentionNotAvailable, match="'flash_attention_2', which gives no weights; accepted: eager or sdpa"
        ),
        edit_attention(model, [0], keys),
    ):
        pass
    config = transformers.MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4)
    with (
        pytest.raises(ValueError, match=r"mamba.*llama"),
        edit_attention(transformers.MambaForCausalLM(config), [0], keys),
    ):
        pass
