"""Guided decoding: relevance carried forward is that carried backward; the choice; `generate` and its cache."""

from __future__ import annotations

import gc

import pytest
import torch
import transformers
from torch.autograd import forward_ad

from shared.lm import Roi, guide, guided_choice, prompt_batch, roi_relevance
from shared.lrp import CPLRP, AttnLRP, attribute, head_relevance
from tests.papers.hub import tiny_tokenizer

SIZES = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
RULES = {"attnlrp": AttnLRP, "cp": CPLRP}


def llama(**given):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES, num_key_value_heads=2, initializer_range=0.3, **given)
    return transformers.LlamaForCausalLM(config).eval()


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    return transformers.GPT2LMHeadModel(config).eval()


def qwen():
    torch.manual_seed(0)
    config = transformers.Qwen2Config(**SIZES, num_key_value_heads=2, initializer_range=0.3)
    return transformers.Qwen2ForCausalLM(config).eval()


def prompts(rows=3, width=9):
    """Ids, with two tokens of padding in front of the first row, and a region, in the others with the first token."""
    ids = torch.randint(5, 50, (rows, width), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    region = torch.zeros_like(ids, dtype=torch.bool)
    region[:, 4:6] = True
    region[1:, 0] = True
    return {"input_ids": ids, "attention_mask": mask}, region


def decode(model, x, roi, *, new=6, cache=True, **options):
    with guide(model, roi, **options) as guidance:
        out = model.generate(
            **x, logits_processor=[guidance], max_new_tokens=new, do_sample=False, pad_token_id=0, use_cache=cache
        )
    return out[:, x["input_ids"].shape[1] :], guidance.steps


def greedy(model, x, new=6):
    out = model.generate(**x, max_new_tokens=new, do_sample=False, pad_token_id=0)
    return out[:, x["input_ids"].shape[1] :]


@pytest.mark.parametrize("make", [llama, qwen, gpt2])
@pytest.mark.parametrize("method", RULES)
def test_forward_is_backward_for_every_token_of_the_vocabulary(make, method):
    model = make()
    x, region = prompts()
    logits, relevance = roi_relevance(model, x, Roi.tokens(region), method=method)
    result = attribute(model, x, target=list(range(50)), composite=RULES[method]())
    torch.testing.assert_close(relevance, (result.tokens * region).sum(-1).T, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(logits, result.output, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("method", RULES)
def test_heads_are_those_of_head_relevance(method):
    model = llama()
    x, _ = prompts()
    pairs = [(0, 1), (2, 3), (1, 0)]
    _, relevance = roi_relevance(model, x, Roi.heads(pairs), method=method)
    expected = head_relevance(model, x, target=[3, 17], composite=RULES[method]())
    parts = torch.stack([expected[:, :, layer, head] for layer, head in pairs]).sum(0)
    torch.testing.assert_close(relevance[:, [3, 17]].T, parts, atol=1e-4, rtol=1e-3)


def test_gradient_is_input_times_gradient():
    """The peer's definition (captum's InputXGradient), written out."""
    model = llama()
    x, region = prompts()
    _, relevance = roi_relevance(model, x, Roi.tokens(region), method="gradient")
    embedded = model.get_input_embeddings()(x["input_ids"]).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, attention_mask=x["attention_mask"]).logits[:, -1]
    (gradient,) = torch.autograd.grad(logits[:, 7].sum(), embedded)
    expected = ((embedded * gradient).sum(-1) * region).sum(-1)
    torch.testing.assert_close(relevance[:, 7], expected.detach(), atol=1e-4, rtol=1e-3)


def test_whole_prompt_under_cp_is_the_logit_and_so_greedy():
    """CP-LRP conserves in a Llama, which has no biases: with all of the text as region AGD is greedy decoding."""
    model = llama()
    x, _ = prompts()
    everything = Roi.tokens(x["attention_mask"].bool())
    logits, relevance = roi_relevance(model, x, everything, method="cp")
    torch.testing.assert_close(relevance, logits, atol=1e-3, rtol=1e-3)
    step = guided_choice(logits, relevance, pi_min=0.0, k=10)
    assert (step.token == logits.argmax(-1)).all()


@pytest.mark.parametrize("options", [{"k": 1}, {"pi_min": 1.0}, {"tau": float("inf")}])
def test_without_a_choice_it_is_greedy(options):
    model = llama()
    x, region = prompts()
    tokens, steps = decode(model, x, Roi.tokens(region), **{"pi_min": 0.0, **options})
    assert torch.equal(tokens, greedy(model, x))
    assert not any(step.guided.any() for step in steps)


def test_cache_changes_nothing_and_every_step_is_an_attribution():
    model = llama()
    x, region = prompts()
    options = {"pi_min": 0.0, "k": 4}
    tokens, steps = decode(model, x, Roi.tokens(region), **options)
    without, again = decode(model, x, Roi.tokens(region), cache=False, **options)
    assert torch.equal(tokens, without)
    assert not torch.equal(tokens, greedy(model, x))
    ids, mask = x["input_ids"], x["attention_mask"]
    for number, (step, other) in enumerate(zip(steps, again, strict=True)):
        torch.testing.assert_close(step.relevance, other.relevance, atol=1e-4, rtol=1e-3)
        targets = [step.candidates[:, c] for c in range(4)]
        result = attribute(model, {"input_ids": ids, "attention_mask": mask}, target=targets, composite=AttnLRP())
        wide = torch.nn.functional.pad(region, (0, number))
        torch.testing.assert_close(step.relevance, (result.tokens * wide).sum(-1).T, atol=1e-4, rtol=1e-3)
        assert (step.token == step.candidates.gather(1, step.relevance.argmax(1, keepdim=True))[:, 0]).all()
        ids = torch.cat([ids, step.token[:, None]], 1)
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_left_padding_changes_nothing(make):
    model = make()
    x, region = prompts()
    tokens, steps = decode(model, x, Roi.tokens(region), pi_min=0.0)
    alone = {name: value[:1, 2:] for name, value in x.items()}
    tokens_alone, steps_alone = decode(model, alone, Roi.tokens(region[:1, 2:]), pi_min=0.0)
    assert torch.equal(tokens[:1], tokens_alone)
    torch.testing.assert_close(steps[0].relevance[:1], steps_alone[0].relevance, atol=1e-4, rtol=1e-3)


def test_batches_and_several_sequences_for_one_prompt():
    model = llama()
    x, region = prompts()
    whole = roi_relevance(model, x, Roi.tokens(region))
    parts = roi_relevance(model, x, Roi.tokens(region), batch_size=2)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-3)
    with guide(model, Roi.tokens(region), pi_min=0.0) as guidance:
        out = model.generate(
            **x, logits_processor=[guidance], max_new_tokens=2, do_sample=True, num_return_sequences=2, pad_token_id=0
        )
    assert torch.equal(out[::2], out[1::2])


def test_model_is_as_before_also_after_an_error():
    model = llama()
    x, region = prompts()
    before = model(**x).logits
    with pytest.raises(KeyError), guide(model, Roi.tokens(region)):
        raise KeyError
    assert torch.equal(model(**x).logits, before)
    assert forward_ad.unpack_dual(before).tangent is None


def test_no_graph_is_kept():
    """Memory grows with the cache alone: twenty steps leave as many tensors alive as four."""

    def alive(steps):
        x, region = prompts()
        decode(llama(), x, Roi.tokens(region), new=steps)
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    alive(2)
    assert alive(20) <= alive(4) + 5


LOGITS = torch.tensor([[3.0, 2.5, 2.0, -4.0], [9.0, 0.2, 0.1, 0.0]])
SCORES = torch.tensor([[-3.0, -2.0, -2.5, 7.0], [-1.0, 5.0, 5.0, 5.0]])


def test_choice_by_hand():
    step = guided_choice(LOGITS, SCORES, k=4, pi_min=0.05)
    assert step.token.tolist() == [1, 0]  # the fourth is implausible; the second row has one candidate
    assert step.guided.tolist() == [True, False]
    assert step.allowed.tolist()[1] == [True, False, False, False]
    assert guided_choice(LOGITS, SCORES, k=4, pi_min=0.0).token.tolist() == [3, 1]
    assert guided_choice(LOGITS, SCORES, k=2, pi_min=0.0).token[0] == 1
    entropy = -(LOGITS.softmax(-1) * LOGITS.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(step.entropy, entropy)
    assert guided_choice(LOGITS, SCORES, tau=float(entropy[0]) + 0.01).token.tolist() == [0, 0]


def test_ties_go_to_the_likelier_token_and_normalising_can_turn_the_order():
    assert guided_choice(LOGITS, torch.zeros_like(LOGITS), pi_min=0.0).token.tolist() == [0, 0]
    scores = torch.tensor([[3.1, 3.0, 0.0, 0.0]])
    assert guided_choice(LOGITS[:1], scores).token == 0
    assert guided_choice(LOGITS[:1], scores, normalize="logit").token == 1


def test_end_of_text_is_emitted_only_where_it_is_likeliest():
    assert guided_choice(LOGITS, SCORES, k=4, eos=1).token.tolist() == [2, 0]
    assert guided_choice(LOGITS, SCORES, k=4, eos=0).token.tolist() == [1, 0]


def test_tokens_that_another_processor_excluded_are_no_candidates():
    excluded = LOGITS.index_fill(1, torch.tensor([1]), -torch.inf)
    step = guided_choice(excluded, SCORES, k=4, pi_min=0.0)
    assert not (step.allowed & (step.candidates == 1)).any()
    assert torch.isfinite(step.entropy).all()
    model = llama(eos_token_id=3)
    x, region = prompts()
    with guide(model, Roi.tokens(region), pi_min=0.0, k=50) as guidance:
        out = model.generate(
            **x, logits_processor=[guidance], max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0
        )
    assert not (out[:, x["input_ids"].shape[1] :] == 3).any()


def test_order_of_the_vocabulary_does_not_matter():
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    logits, scores = torch.randn(2, 4, 50, generator=torch.Generator().manual_seed(1))
    options = {"pi_min": 0.0, "k": 7}
    chosen = guided_choice(logits, scores, **options).token
    assert torch.equal(order[guided_choice(logits[:, order], scores[:, order], **options).token], chosen)
    step = guided_choice(logits, 3.0 * scores, **options)
    assert torch.equal(step.token, chosen)
    assert (step.candidates == chosen[:, None]).any(1).all()


def test_regions_are_tokens_of_the_text(tmp_path):
    tokenizer = tiny_tokenizer(tmp_path)
    texts = ["the old house by the river", "the river"]
    batch = prompt_batch(tokenizer, texts, regions={"last": [(text.rindex("river"), len(text)) for text in texts]})
    for row in range(2):
        assert tokenizer.decode(batch.ids[row][batch.regions["last"][row]]).strip() == "river"
    assert batch.attention_mask[0].all()
    assert (batch.ids[1, -1], int(batch.attention_mask[1, 0])) == (batch.ids[0, -1], 0)
    drawn = batch.shuffled("last", generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn.sum(1), batch.regions["last"].sum(1))
    assert not (drawn & ~batch.attention_mask.bool()).any()
    assert not (drawn[0] & batch.regions["last"][0]).any()


def test_bad_regions_and_models_are_refused(tmp_path):
    model = llama()
    x, region = prompts()
    with pytest.raises(ValueError, match="mask marks no token in row 1: an empty region"):
        Roi.tokens(region & torch.tensor([[True], [False], [True]]))
    with pytest.raises(ValueError, match=r"mask has dtype torch\.int64"):
        Roi.tokens(region.long())
    with pytest.raises(ValueError, match="pairs is empty"):
        Roi.heads([])
    for pair in ((3, 0), (0, 4), (-1, 0)):
        with pytest.raises(ValueError, match=r"roi has head .*; the model has 3 layers"):
            roi_relevance(model, x, Roi.heads([pair]))
    with pytest.raises(ValueError, match=r"roi has shape \(2, 9\)"):
        roi_relevance(model, x, Roi.tokens(region[:2]))
    with pytest.raises(ValueError, match="roi has 2 rows; the model was given 3"):
        decode(model, x, Roi.tokens(region[:2]))
    with pytest.raises(ValueError, match="method='lime' is unknown"):
        roi_relevance(model, x, Roi.tokens(region), method="lime")
    with pytest.raises(ValueError, match="pi_min=2"), guide(model, Roi.tokens(region), pi_min=2):
        pass
    with guide(model, Roi.tokens(region)) as guidance:
        pass
    with pytest.raises(RuntimeError, match="carry no relevance"):
        model.generate(**x, logits_processor=[guidance], max_new_tokens=1, pad_token_id=0)
    tokenizer = tiny_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=r"regions\['a'\] holds no token in text 0: \(3, 3\)"):
        prompt_batch(tokenizer, ["the river"], regions={"a": [(3, 3)]})
    with pytest.raises(ValueError, match="texts is empty"):
        prompt_batch(tokenizer, [])


def test_a_model_whose_forward_mode_is_not_its_rule_is_refused(monkeypatch):
    from shared.lrp.rules import _functions

    monkeypatch.setattr(_functions.UniformProduct, "jvp", staticmethod(lambda ctx, a, b: a * ctx.saved_tensors[1]))
    x, region = prompts()
    with pytest.raises(RuntimeError, match="relevance carried forward through LlamaForCausalLM"):
        roi_relevance(llama(), x, Roi.tokens(region))
