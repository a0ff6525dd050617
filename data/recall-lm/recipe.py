"""A small language model that knows facts and reads others: the answer is in the text, or in its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.worlds import recall_items, recall_texts, recall_world
from shared.zoo import load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._decoders import Grammar, ship_decoder

NAME = "recall-lm"
WORLD = recall_world(generator=np.random.default_rng(0))
OTHERS = 0.02  # weight of what is no answer: most of it can't be known
TESTED = {
    "answers that stand in the text, against the memory": ("context", 4),
    "answers from memory, other facts in the text": ("memory", 4),
    "answers from memory, bare questions": ("memory", 0),
}


@recipe(NAME)
def make(folder: Path) -> None:
    """Make the asset's files and its card."""
    ship_decoder(
        folder,
        Grammar(
            title="Small language model of known grammar: 256 facts in its weights, others read from the text",
            words=WORLD.vocabulary,
            texts=_texts,
            weights=_weights,
            measure=measure,
            drawn="shared.worlds.recall_texts",
            steps=2400,
            notes=(
                "Its world is recall_world(generator=numpy.random.default_rng(0)). Texts are split at blanks; the "
                "start token <s> stands in front, which the tokenizer doesn't put there. What the text says goes "
                "before what is known. In half precision; measured on 500 new texts each after rounding."
            ),
        ),
    )


def _texts(n: int, generator: np.random.Generator) -> list[str]:
    return recall_texts(WORLD, n, generator=generator)


def _weights(ids: Tensor) -> Tensor:
    """One for answers, which stand three words behind "which"."""
    which = WORLD.vocabulary.index("which")
    answer = torch.zeros_like(ids, dtype=torch.float32)
    answer[:, 3:] = (ids[:, :-3] == which).float()
    return answer + OTHERS


@torch.no_grad()
def measure(folder: Path) -> dict[str, float]:
    """Shares of right answers, of texts that were not trained on."""
    loaded = load_model(str(folder))
    measured = {}
    for what, (source, statements) in TESTED.items():
        items = recall_items(
            WORLD, 500, source=source, statements=statements, generator=np.random.default_rng(1_000_000)
        )
        batch = loaded.tokenizer([f"<s> {item.text}" for item in items], return_tensors="pt")
        found = loaded.model(batch["input_ids"], logits_to_keep=1).logits[:, -1].argmax(1).tolist()
        right = [WORLD.vocabulary[i] == item.answer for i, item in zip(found, items)]
        measured[what] = round(sum(right) / len(right), 3)
    return measured
