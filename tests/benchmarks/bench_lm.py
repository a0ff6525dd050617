"""What a guided decoding step costs, beside a forward pass and a backward pass for each candidate as in the paper.

"forward, 5 backward" is the untouched model to its embeddings, parameters frozen: one forward pass and a
vector-Jacobian product for each of five candidates over one graph. Decoding is beside plain decoding, both cached.
Contrastive decoding with one damaged twin (and with two) is beside plain decoding too, no step skipped.
So is decoding with roles of tokens (ASIDE's rotation).
Answers behind a prompt that is read once are beside the same texts read whole.
The relevance of all heads is beside ablating each of them, a forward pass per head, whose cost grows with their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import transformers

from shared.hooks import ablate_heads, attention_modules, capture
from shared.lm import Roi, RoleEmbedding, answer_states, assign_roles, contrast, edit_attention, guide, roi_relevance
from shared.lrp import AttnLRP, attribute, head_relevance

Row = dict[str, Any]
CANDIDATES = 5


def run(quick: bool = False) -> list[Row]:
    """All rows; `quick` takes a smaller model and fewer rounds."""
    width, depth = (128, 4) if quick else (384, 12)
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "intermediate_size": 3 * width, "vocab_size": 4096}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    ids = torch.randint(5, 4096, (8, 64))
    x = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    roi = Roi.tokens(torch.zeros_like(ids, dtype=torch.bool).index_fill(1, torch.arange(5, 25), True))
    targets = [torch.full((8,), c) for c in range(CANDIDATES)]

    def backward() -> None:
        embedded = model.get_input_embeddings()(ids).requires_grad_()
        logits = model(inputs_embeds=embedded, use_cache=False, logits_to_keep=1).logits[:, -1]
        for c in range(CANDIDATES):
            torch.autograd.grad(logits[:, c].sum(), embedded, retain_graph=True)

    def decode(processors: list[Any]) -> None:
        options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
        model.generate(**x, logits_processor=processors, **options)

    def guided() -> None:
        with guide(model, roi) as guidance:
            decode([guidance])

    def contrasted(layers: list[range]) -> None:
        twins = [lambda ids, part=part: edit_attention(model, part, ids % 5 == 0) for part in layers]
        with contrast(model, twins, plausible=0.0) as processor:
            decode([processor])

    def with_roles() -> None:
        with assign_roles(model, ids % 2, RoleEmbedding(width)):
            decode([])

    def ablations() -> None:
        with torch.no_grad():
            for name in attention_modules(model):
                for head in range(4):
                    with ablate_heads(model, {name: [head]}):
                        model(**x, use_cache=False, logits_to_keep=1)

    best = seconds(
        {
            "heads": lambda: head_relevance(model, x, targets[0], positive=True),
            "ablations": ablations,
            "step": lambda: roi_relevance(model, x, roi),
            "attribute": lambda: attribute(model, x, targets, composite=AttnLRP()),
            "backward": backward,
            "guided": guided,
            "plain": lambda: decode([]),
            "roles": with_roles,
            "one twin": lambda: contrasted([range(depth // 3, 2 * depth // 3)]),
            "two twins": lambda: contrasted([range(depth // 3), range(depth // 3, 2 * depth // 3)]),
        },
        2 if quick else 4,
    )
    where = f"Llama {depth} x {width}, 8 x 64 tokens"
    step, reference = f"guided step, {where}", f"forward, {CANDIDATES} backward"
    return [
        row(step, best["step"], reference, best["backward"], 1.2),
        row(step, best["step"], "attribute, 5 targets", best["attribute"], 1.0),
        row(f"all {4 * depth} heads' relevance, {where}", best["heads"], "ablation of each", best["ablations"], 0.5),
        answers(model, where, 2 if quick else 4),
        row(f"8 guided tokens, {where}", best["guided"], "plain decoding", best["plain"], None),
        row(f"8 tokens with rotated roles, {where}", best["roles"], "plain decoding", best["plain"], None),
        row(f"8 tokens against a damaged twin, {where}", best["one twin"], "plain decoding", best["plain"], 2.3),
        row(f"8 tokens against two damaged twins, {where}", best["two twins"], "plain decoding", best["plain"], None),
    ]


class Digits:
    """A tokenizer of numbers at blanks."""

    all_special_ids = (0,)

    def __call__(self, text: str, add_special_tokens: bool = True) -> Any:
        ids = [0] * add_special_tokens + [int(word) for word in text.split()]
        return transformers.BatchEncoding({"input_ids": ids})


def answers(model: Any, where: str, rounds: int) -> Row:
    """States of 8 answers of 8 tokens behind one prompt of 56, beside the same texts read whole."""
    prompt, said = (" ".join(map(str, torch.randint(5, 4096, (n,)).tolist())) for n in (56, 8))
    layer, loaded = "model.layers.1", SimpleNamespace(model=model, tokenizer=Digits())
    whole = torch.tensor([loaded.tokenizer(f"{prompt} {said}")["input_ids"]] * 8)

    def read_whole() -> None:
        with torch.no_grad(), capture(model, layer):
            model(whole, use_cache=False)

    jobs = {"ours": lambda: answer_states(loaded, [layer], [(prompt, [f" {said}"] * 8)]), "whole": read_whole}
    best = seconds(jobs, rounds)
    return row(f"states of 8 answers to one prompt, {where}", best["ours"], "the texts read whole", best["whole"], 0.5)


def seconds(jobs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Smallest time of each job over alternating rounds, after one warm-up of each."""
    best: dict[str, float] = {}
    for n in range(rounds + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if n:
                best[name] = min(best.get(name, float("inf")), time.perf_counter() - start)
    return best


def row(benchmark: str, ours: float, reference: str, theirs: float, aim: float | None) -> Row:
    return dict(benchmark=benchmark, ours_s=ours, reference=reference, reference_s=theirs, ratio=ours / theirs, aim=aim)
