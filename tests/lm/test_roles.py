"""Role embeddings: the rotation by its equation; `forward`, `generate`, cache and padding agree."""

from __future__ import annotations

import math

import pytest
import torch
import transformers

from shared.lm import RoleEmbedding, assign_roles, role_embeds, role_tokens, turn_pairs
from tests.papers.hub import tiny_gpt2, tiny_tokenizer

SIZES = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama(**given):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES, initializer_range=0.3, **given)
    return transformers.LlamaForCausalLM(config).eval()


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    return transformers.GPT2LMHeadModel(config).eval()


def prompts(rows=3, width=7):
    ids = torch.randint(5, 50, (rows, width), generator=torch.Generator().manual_seed(1))
    roles = torch.zeros_like(ids)
    roles[:, 4:] = 1
    return ids, roles


def matrix(width, angle):
    """The equation: 2 x 2 blocks of one angle along the diagonal."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.block_diag(*[torch.tensor([[c, -s], [s, c]], dtype=torch.float64)] * (width // 2))


@pytest.mark.parametrize("angle", [0.3, math.pi / 2, math.pi, -2.0, 3 * math.pi / 2])
def test_the_rotation_is_its_matrix(angle):
    x = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turn_pairs(x, angle), x @ matrix(8, angle))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_quarter_turns_are_exact_in_every_precision(dtype):
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    turned = turn_pairs(x, math.pi / 2)
    assert turned.dtype == dtype
    assert torch.equal(turned[:, 0::2], x[:, 1::2])
    assert torch.equal(turned[:, 1::2], -x[:, 0::2])
    assert torch.equal(turn_pairs(turned, math.pi / 2), -x)
    assert torch.equal(turn_pairs(x, 2 * math.pi), x)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_instructions_alone_and_no_angle_leave_the_model_as_it_is(make):
    model, (ids, roles) = make(), prompts()
    plain = model(ids).logits
    for embedding, bits in (
        (RoleEmbedding(32), torch.zeros_like(ids)),
        (RoleEmbedding(32, angle=0.0), roles),
        (RoleEmbedding(32, mode="none"), roles),
        (RoleEmbedding(32, mode="segment"), roles),
    ):
        torch.testing.assert_close(model(inputs_embeds=role_embeds(model, ids, bits, embedding)).logits, plain)
    turned = model(inputs_embeds=role_embeds(model, ids, roles, RoleEmbedding(32))).logits
    torch.testing.assert_close(turned[:, :4], plain[:, :4])
    assert (turned[:, 4:] - plain[:, 4:]).abs().max() > 0.01


@pytest.mark.parametrize("make", [llama, gpt2])
def test_within_the_context_forward_is_that_of_inputs_embeds(make):
    model, (ids, roles) = make(), prompts()
    embedding = RoleEmbedding(32)
    with torch.no_grad(), assign_roles(model, roles, embedding):
        found = model(ids).logits
    torch.testing.assert_close(found, model(inputs_embeds=role_embeds(model, ids, roles, embedding)).logits)
    assert not model.get_input_embeddings()._forward_hooks


def test_a_tied_head_reads_the_table_unturned():
    model, (ids, roles) = llama(tie_word_embeddings=True), prompts()
    table = model.get_input_embeddings().weight.clone()
    with torch.no_grad(), assign_roles(model, roles, RoleEmbedding(32)):
        last = model(ids, output_hidden_states=True)
    assert torch.equal(model.get_output_embeddings().weight, table)
    torch.testing.assert_close(last.logits, last.hidden_states[-1] @ table.T)


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_return_sequences": 2, "do_sample": True}])
def test_generate_with_and_without_cache_is_one_token_after_another(make, options):
    model, (ids, roles) = make(), prompts()
    options = {"max_new_tokens": 6, "pad_token_id": 0, "eos_token_id": 49, **options}
    runs = []
    for cache in (True, False):
        torch.manual_seed(0)
        with assign_roles(model, roles, RoleEmbedding(32)):
            runs.append(model.generate(ids, use_cache=cache, **options))
    assert torch.equal(*runs)
    if len(options) > 3:
        return
    grown, bits = ids, roles
    for _ in range(6):
        logits = model(inputs_embeds=role_embeds(model, grown, bits, RoleEmbedding(32))).logits[:, -1]
        grown, bits = torch.cat([grown, logits.argmax(-1, keepdim=True)], 1), torch.cat([bits, bits[:, -1:]], 1)
    stop = (grown[:, 7:] == 49).cumsum(1).roll(1, 1)
    stop[:, 0] = 0
    assert torch.equal(
        runs[0][:, 7:], grown[:, 7 : runs[0].shape[1]].masked_fill(stop[:, : runs[0].shape[1] - 7] > 0, 0)
    )


def test_left_padding_changes_nothing(tmp_path):
    model = llama()
    tokenizer = tiny_tokenizer(tmp_path)
    model.resize_token_embeddings(len(tokenizer))
    short, long = [("a", "instruction"), ("b", "data")], [("a b a", "instruction"), ("b a b", "data")]
    ids, roles, mask = role_tokens(tokenizer, [short, long], start=None)
    alone, bits, _ = role_tokens(tokenizer, [short], start=None)
    assert torch.equal(ids[0, mask[0] == 1], alone[0])
    assert roles[0, mask[0] == 0].sum() == 0
    with torch.no_grad(), assign_roles(model, roles, RoleEmbedding(32)):
        places = (mask.cumsum(1) - 1).clamp(min=0)
        padded = model(ids, attention_mask=mask, position_ids=places).logits[0, -1]
    torch.testing.assert_close(
        padded, model(inputs_embeds=role_embeds(model, alone, bits, RoleEmbedding(32))).logits[0, -1]
    )


def test_only_the_first_part_gets_a_start_token(tmp_path):
    tiny_gpt2(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids, roles, mask = role_tokens(tokenizer, [[("a b", "instruction"), ("c", "data")]], start="auto")
    started = role_tokens(tokenizer, [[("a b", "instruction"), ("c", "data")]], start=None)[0]
    assert torch.equal(ids[:, 1:], started)
    assert roles[0, 0] == 0
    assert mask.all()


def test_segments_are_added():
    segment = RoleEmbedding(4, mode="segment")
    with torch.no_grad():
        segment.table.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0]]))
    found = segment(torch.zeros(1, 2, 4), torch.tensor([[0, 1]]))
    assert found.tolist() == [[[1, 0, 0, 0], [0, 2, 0, 0]]]


def test_bad_input_is_refused(tmp_path):
    model, (ids, roles) = llama(), prompts()
    embedding = RoleEmbedding(32)
    with pytest.raises(ValueError, match="roles has shape"):
        role_embeds(model, ids, roles[:, 1:], embedding)
    with pytest.raises(ValueError, match="roles is a list"):
        role_embeds(model, ids, roles.tolist(), embedding)
    with pytest.raises(ValueError, match="roles has other values"):
        role_embeds(model, ids, roles * 2, embedding)
    with assign_roles(model, roles[:, 1:], embedding), pytest.raises(ValueError, match="roles has shape"):
        model.generate(ids, max_new_tokens=2)
    with assign_roles(model, roles[:2], embedding), pytest.raises(ValueError, match="roles has shape"):
        model(ids)
    assert not model.get_input_embeddings()._forward_hooks
    with pytest.raises(ValueError, match="roles must be"), assign_roles(model, None, embedding):
        pass
    with pytest.raises(ValueError, match="width=7"):
        RoleEmbedding(7)
    with pytest.raises(ValueError, match="mode='turn'"):
        RoleEmbedding(8, mode="turn")
    with pytest.raises(ValueError, match="embeds has width 8"):
        embedding(torch.zeros(1, 2, 8), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="x has shape"):
        turn_pairs(torch.ones(2, 3), 1.0)
    with pytest.raises(ValueError, match="angle="):
        turn_pairs(torch.ones(2, 4), math.nan)
    tokenizer = tiny_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="prompts='system'"):
        role_tokens(tokenizer, [[("a", "system")]])
    with pytest.raises(ValueError, match="prompts must be"):
        role_tokens(tokenizer, [])
