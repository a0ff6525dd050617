"""Sentences whose grammar is set concept by concept, and a language model's hidden states of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_range
from shared.hooks import capture

TEXT_CONCEPTS = ("past", "negated", "plural", "question", "first person", "adjective")
_NOUNS = "farmer teacher doctor student writer driver player pilot author lawyer nurse boy".split()
_VERBS = [  # base, third person, past
    tuple(forms.split("/"))
    for forms in "see/sees/saw find/finds/found like/likes/liked know/knows/knew want/wants/wanted need/needs/needed "
    "buy/buys/bought paint/paints/painted wash/washes/washed break/breaks/broke carry/carries/carried "
    "choose/chooses/chose".split()
]
_THINGS = "car house box door book table bottle chair boat clock lamp bag cup coat".split()
_ADJECTIVES = "red old small heavy dirty wooden new broken green large".split()
_PLACES = ("", " in the garden", " near the river", " at the market", " on the road", " behind the school")


def concept_sentences(Y: Tensor | np.ndarray, *, rng: np.random.Generator) -> list[str]:
    """One English sentence for each row of labels Y (n, 6), in the order of `TEXT_CONCEPTS`; all else is drawn.

    The sentence is in the past tense (else present), negated, its subject plural (else singular), a question (else a
    statement), in the first person (else third), and names its object with an adjective, or not: "Did we not see the
    red car?"
    """
    Y = np.asarray(Y)
    if Y.ndim != 2 or Y.shape[1] != len(TEXT_CONCEPTS) or not np.isin(Y, (0, 1)).all():
        raise ValueError(f"Y has shape {Y.shape}; expected (n, {len(TEXT_CONCEPTS)}) with values 0 and 1")
    drawn = {
        name: rng.choice(len(among), len(Y))
        for name, among in zip("nvtap", (_NOUNS, _VERBS, _THINGS, _ADJECTIVES, _PLACES))
    }
    return [
        _sentence(
            row, _NOUNS[drawn["n"][i]], _VERBS[drawn["v"][i]], _THINGS[drawn["t"][i]],
            _ADJECTIVES[drawn["a"][i]], _PLACES[drawn["p"][i]],
        )
        for i, row in enumerate(Y.astype(bool))
    ]  # fmt: skip


def _sentence(labels: np.ndarray, noun: str, verb: tuple[str, ...], thing: str, adjective: str, place: str) -> str:
    past, negated, plural, question, first, described = labels
    subject = ("we" if plural else "I") if first else f"the {noun}s" if plural else f"the {noun}"
    base, third, before = verb
    plain = plural or first  # the verb takes no -s
    helper = "did" if past else "do" if plain else "does"
    if question:
        start = f"{helper} {subject}{' not' if negated else ''} {base}"
    elif negated:
        start = f"{subject} {helper} not {base}"
    else:
        start = f"{subject} {before if past else base if plain else third}"
    text = f"{start} the {adjective + ' ' if described else ''}{thing}{place}{'?' if question else '.'}"
    return text[0].upper() + text[1:]


@torch.no_grad()
def mean_states(loaded: Any, texts: Sequence[str], layer: str, *, batch_size: int = 64) -> Tensor:
    """A module's output, averaged over each text's tokens: (n, d), on the CPU.

    loaded : `zoo.LoadedModel`; a token of the start (or end) of text is put in front and left out of the mean, because
    language models store no content but large values at a first token. layer : name of a block, e.g.
    "model.layers.14". Texts of like length share a batch.
    """
    check_range("batch_size", batch_size, 1)
    model, tokenizer = loaded.model, loaded.tokenizer
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    ids = [[start, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in texts]
    if not ids or min(map(len, ids)) < 2:
        raise ValueError("texts must be non-empty, and so must each of them")
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    parts = []
    for low in range(0, len(order), batch_size):
        rows = [ids[i] for i in order[low : low + batch_size]]
        longest = max(map(len, rows))
        batch = torch.tensor([row + [start] * (longest - len(row)) for row in rows], device=model.device)
        real = torch.tensor([[0] + [1] * (len(row) - 1) + [0] * (longest - len(row)) for row in rows])
        real = real.to(model.device, torch.float32)[..., None]
        with capture(model, layer) as seen:  # padding stands behind, where a causal model doesn't look
            model(batch, use_cache=False)
        parts.append(((seen[layer].float() * real).sum(1) / real.sum(1)).cpu())
    out = torch.empty(len(ids), parts[0].shape[1])
    out[order] = torch.cat(parts)
    return out
