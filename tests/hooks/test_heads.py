"""What heads attend to and give, against eager attention and a slow decomposition; ablation by its definition."""

import pytest
import torch

from shared.hooks import ablate_heads, attention_modules, capture, capture_attention, capture_heads, edit_heads

FIRST = "encoder.layers.0.self_attn"


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def tower():
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    sizes = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4)
    model = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=16, patch_size=4)).eval()
    return getattr(model, "vision_model", model)


@pytest.fixture(scope="module")
def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = dict(vocab_size=30, hidden_size=16, intermediate_size=24, num_hidden_layers=2)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads)).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 16, 16, generator=rng())


@torch.no_grad()
def last(tower, images):
    return tower(pixel_values=images).last_hidden_state


@pytest.mark.parametrize("query", [0, 5, -1])
def test_attention_is_that_of_the_eager_implementation(tower, images, query):
    with torch.no_grad():
        tower.set_attn_implementation("eager")
        expected = tower(pixel_values=images, output_attentions=True).attentions
        tower.set_attn_implementation("sdpa")
        with capture_attention(tower, query) as seen:
            tower(pixel_values=images)
    assert list(seen) == list(attention_modules(tower))
    for (rows,), weights in zip(seen.values(), expected):
        assert torch.allclose(rows, weights[:, :, query], atol=1e-6)


@pytest.mark.parametrize("padded", [False, True])
def test_attention_heeds_masks_and_shared_keys(llama, padded):
    ids = torch.randint(3, 30, (2, 7), generator=rng())
    mask = torch.ones_like(ids)
    if padded:
        mask[0, :3] = 0
    with torch.no_grad():
        llama.set_attn_implementation("eager")
        expected = llama(ids, attention_mask=mask, output_attentions=True).attentions
        for implementation in ("eager", "sdpa"):
            llama.set_attn_implementation(implementation)
            with capture_attention(llama, 4) as seen:
                llama(ids, attention_mask=mask)
            for (rows,), weights in zip(seen.values(), expected):
                assert torch.allclose(rows, weights[:, :, 4], atol=1e-6)
                assert not rows[..., 5:].any()


def test_heads_add_up_to_the_block(tower, images):
    with torch.no_grad(), capture_heads(tower) as given, capture(tower, FIRST) as out:
        tower(pixel_values=images)
    project, total = attention_modules(tower)[FIRST].out_proj, 0
    for head in range(4):
        total = total + given[FIRST][0][:, :, head] @ project.weight[:, 4 * head : 4 * head + 4].T
    assert torch.allclose(total + project.bias, out[FIRST], atol=1e-6)


def test_ablated_heads_leave_the_others_and_the_bias(tower, images):
    plain = last(tower, images)
    with ablate_heads(tower, {}), ablate_heads(tower, {FIRST: []}):
        assert torch.equal(last(tower, images), plain)
    everything = {name: range(4) for name in attention_modules(tower)}
    with ablate_heads(tower, everything), capture(tower, FIRST) as out:
        last(tower, images)
    bias = attention_modules(tower)[FIRST].out_proj.bias
    assert torch.allclose(out[FIRST], bias.expand_as(out[FIRST]), atol=1e-7)
    assert torch.equal(last(tower, images), plain)


@pytest.mark.parametrize("tokens", [None, 0, [2, 5], slice(1, None)])
@pytest.mark.parametrize("kind", ["zero", "mean", "by place"])
def test_only_the_heads_and_tokens_named_change(tower, images, tokens, kind):
    with torch.no_grad(), capture_heads(tower) as given:
        tower(pixel_values=images)
    before = given[FIRST][0]
    value = {"zero": torch.zeros(4, 4), "mean": before.mean((0, 1)), "by place": before.mean(0)}[kind]
    wanted = before.clone()
    for place in range(17) if tokens is None else torch.arange(17)[tokens].reshape(-1).tolist():
        for head in (1, 3):
            wanted[:, place, head] = value[place, head] if value.ndim == 3 else value[head]
    values = None if kind == "zero" else {FIRST: value}
    with ablate_heads(tower, {FIRST: [3, 1]}, values=values, tokens=tokens), capture_heads(tower) as after:
        last(tower, images)
    assert torch.equal(after[FIRST][0], wanted)


def test_patch_tokens_of_the_last_block_do_not_reach_the_class_token(tower, images):
    name = list(attention_modules(tower))[-1]
    with ablate_heads(tower, {name: range(4)}, tokens=slice(1, None)):
        patches = last(tower, images)
    assert torch.equal(patches[:, 0], last(tower, images)[:, 0])
    assert not torch.allclose(patches[:, 1:], last(tower, images)[:, 1:])


def test_an_exception_undoes_it(tower, images):
    plain = last(tower, images)
    with pytest.raises(KeyError), edit_heads(tower, {FIRST: torch.zeros_like}):
        raise KeyError("inside")
    assert torch.equal(last(tower, images), plain)


def test_bad_input(tower):
    nan = {FIRST: torch.full((4, 4), torch.nan)}
    for arguments, message in (
        (({"encoder.layers.9.self_attn": [0]},), r"heads='encoder\.layers\.9\.self_attn' is unknown; did you mean"),
        (({FIRST: [4]},), r"heads has 4 in 'encoder.*it has 4, from 0 to 3"),
        (({FIRST: [-1]},), "heads has -1"),
    ):
        with pytest.raises(ValueError, match=message), ablate_heads(tower, *arguments):
            pass
    for values, message in (
        (nan, "values has 16 NaN"),
        ({FIRST: torch.zeros(3, 4)}, r"values has shape \(3, 4\); expected \(4, d\)"),
        ({}, f"values='{FIRST}' is unknown"),
    ):
        with pytest.raises(ValueError, match=message), ablate_heads(tower, {FIRST: [0]}, values=values):
            pass
    with pytest.raises(ValueError, match="edits='mlp' is unknown"), edit_heads(tower, {"mlp": torch.zeros_like}):
        pass
