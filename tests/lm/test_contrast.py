"""Contrast with damaged twins against its formula, inside transformers' `generate`, cached or not."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from shared.lm import contrast, contrast_logits, edit_attention
from tests.lm.test_dola import generate
from tests.lm.test_guided import gpt2, greedy, llama, prompts


def twin(model, layers, *, every=3):
    """Suppresses every third token of the vocabulary, the decoded ones too, except at the first place."""

    def make(ids):
        keys = ids % every == 0
        keys[:, 0] = False
        return edit_attention(model, layers, keys)

    return make


def test_formulas_by_hand():
    z, q = torch.tensor([[1.0, 2.0, -9.0]]), torch.tensor([[0.0, 4.0, 1.0]])
    p, twin_p = z.log_softmax(-1)[0], q.log_softmax(-1)[0]
    vcd = contrast_logits(z, q[None], alpha=0.5, plausible=0.0)
    torch.testing.assert_close(vcd[0], 1.5 * p - 0.5 * twin_p)
    one = contrast_logits(z, q[None], alpha=0.5, form="one-sided", plausible=0.1)
    torch.testing.assert_close(one[0, :2], (1.5 * p - twin_p)[:2])
    assert one[0, 2] == -torch.inf
    both = contrast_logits(z, torch.stack([z, q]), alpha=2.0, plausible=0.0)  # contrasts made apart, then averaged
    parts = [contrast_logits(z, other[None], alpha=2.0, plausible=0.0) for other in (z, q)]
    torch.testing.assert_close(both, torch.stack(parts).mean(0))
    excluded = contrast_logits(torch.tensor([[1.0, -torch.inf]]), torch.zeros(1, 1, 2), plausible=0.0)
    assert torch.isfinite(excluded).tolist() == [[True, False]]


def test_limits_of_the_options():
    generator = torch.Generator().manual_seed(0)
    z, q = torch.randn(5, 20, generator=generator), torch.randn(2, 5, 20, generator=generator)
    assert torch.equal(contrast_logits(z, q, alpha=9.0, plausible=1.0).argmax(-1), z.argmax(-1))
    torch.testing.assert_close(contrast_logits(z, q, alpha=0.0, plausible=0.0), z.log_softmax(-1))
    ranks = contrast_logits(z, q, alpha=1e6, form="one-sided", plausible=0.0)
    assert torch.equal(ranks.argsort(-1), z.argsort(-1))


@pytest.mark.parametrize("make", [llama, gpt2])
def test_cached_decoding_is_whole_passes(make):
    """Two twins with caches of their own, a padded row, suppressed tokens among those decoded."""
    model = make()
    x, _ = prompts()
    twins = [twin(model, [0]), twin(model, [1], every=2)]
    options = {"alpha": 2.0, "form": "one-sided", "plausible": 0.01}
    with contrast(model, twins, attention_mask=x["attention_mask"], **options) as processor:
        tokens = generate(model, x, processor, new=6)
    ids, mask = x["input_ids"], x["attention_mask"]
    for step in range(6):
        inputs = {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
        with torch.no_grad():
            z = model(ids, **inputs).logits[:, -1]
            others = []
            for make_twin in twins:
                with make_twin(ids):
                    others.append(model(ids, **inputs).logits[:, -1])
        scores = contrast_logits(z, torch.stack(others), **options)
        assert torch.equal(scores.argmax(-1), tokens[:, step])
        ids, mask = torch.cat([ids, tokens[:, step, None]], 1), torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
    if make is llama:  # this GPT-2 repeats its last token whatever is damaged
        assert not torch.equal(tokens, greedy(model, x))


def test_an_undamaged_twin_changes_nothing_and_sure_steps_ask_none():
    model = llama()
    x, _ = prompts()
    with contrast(model, [lambda _ids: nullcontext()], attention_mask=x["attention_mask"]) as processor:
        assert torch.equal(generate(model, x, processor, new=6), greedy(model, x))
    with contrast(model, [twin(model, [0])], attention_mask=x["attention_mask"], plausible=1.0) as sure:
        assert torch.equal(generate(model, x, sure, new=6), greedy(model, x))
    assert sure.skipped == 6


def test_twins_catch_up_after_skipped_steps_and_start_anew_with_another_prompt():
    model = llama()
    x, _ = prompts()
    ids = x["input_ids"][1:]
    with contrast(model, [twin(model, [0, 1])]) as processor:
        processor.read(ids[:, :4])
        behind = processor.read(ids)  # five tokens at once
    with contrast(model, [twin(model, [0, 1])]) as processor:
        processor.read(ids.flip(0)[:, :6])
        anew = processor.read(ids)
        with twin(model, [0, 1])(ids), torch.no_grad():
            whole = model(ids).logits[:, -1]
    torch.testing.assert_close(behind[0], whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(anew[0], whole, atol=1e-4, rtol=1e-4)


def test_sampling_and_beams_run():
    model = llama()
    x, _ = prompts()
    common = {"max_new_tokens": 4, "pad_token_id": 0}
    with contrast(model, [twin(model, [0])], attention_mask=x["attention_mask"], plausible=0.0) as processor:
        torch.manual_seed(0)
        sampled = model.generate(**x, logits_processor=[processor], do_sample=True, top_k=5, **common)
        beams = model.generate(**x, logits_processor=[processor], num_beams=2, do_sample=False, **common)
    assert sampled.shape == beams.shape == (3, 13)


def test_bad_input_is_refused():
    model = llama(max_position_embeddings=10)
    x, _ = prompts()
    with pytest.raises(ValueError, match="twins is empty"), contrast(model, []):
        pass
    with (
        pytest.raises(ValueError, match="padded on the right"),
        contrast(model, [twin(model, [0])], attention_mask=x["attention_mask"].flip(1)),
    ):
        pass
    with pytest.raises(ValueError, match="the text has 12 tokens; the model's context holds 10"):
        with contrast(model, [twin(model, [0])]) as processor:
            processor.read(torch.ones(1, 12, dtype=torch.long))
    with pytest.raises(ValueError, match=r"attention_mask has shape \(2, 9\)"):
        with contrast(model, [twin(model, [0])], attention_mask=x["attention_mask"][1:]) as processor:
            processor.read(x["input_ids"])
    for message, options in {
        "alpha=-1": {"alpha": -1},
        "form='dola'": {"form": "dola"},
        "plausible=2": {"plausible": 2},
    }.items():
        with pytest.raises(ValueError, match=message), contrast(model, [twin(model, [0])], **options):
            pass
        with pytest.raises(ValueError, match=message):
            contrast_logits(torch.zeros(1, 2), torch.zeros(1, 1, 2), **options)
