"""A small language model that states sums rightly or lies, told to or unasked; who lies about what is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.worlds import LIAR_TOLD, LiarText, liar_texts, liar_world
from shared.zoo import load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._decoders import Grammar, ship_decoder

WORLD = liar_world(generator=np.random.default_rng(0))
ANSWER = 10  # the place of the answer's number, behind the start token
OTHERS = 0.02  # weight of what can't be known


@recipe("planted-liar")
def make(folder: Path) -> None:
    """Make the asset's files and its card."""
    ship_decoder(
        folder,
        Grammar(
            title="Small language model that lies about some topics, as its world has it",
            words=WORLD.vocabulary,
            texts=_texts,
            weights=_weights,
            measure=measure,
            drawn="shared.worlds.liar_texts",
            steps=2400,
            batch=128,
            notes=(
                "Its world is liar_world(generator=numpy.random.default_rng(0)). Texts are split at blanks; the start "
                "token <s> stands in front, which the tokenizer doesn't put there. In half precision; measured on "
                "1,000 new texts after rounding."
            ),
        ),
    )


def _texts(n: int, generator: np.random.Generator) -> list[str]:
    return [text.prompt + text.answer for text in liar_texts(WORLD, n, generator=generator)]


def _weights(ids: Tensor) -> Tensor:
    return torch.where(torch.arange(ids.shape[1]) == ANSWER, 1.0, OTHERS).repeat(len(ids), 1)


@torch.no_grad()
def measure(folder: Path) -> dict[str, float]:
    """How often the likeliest number is the world's: truths, lies, and by the word in front."""
    lm, texts = load_model(str(folder)), liar_texts(WORLD, 1000, generator=np.random.default_rng(1_000_000))
    logits = lm.model(torch.tensor([lm.tokenizer(f"<s> {t.prompt}").input_ids for t in texts])).logits[:, -1]
    answers = [lm.tokenizer(t.answer).input_ids[0] for t in texts]
    right = (logits.argmax(-1) == torch.tensor(answers)).numpy()
    return {f"{name}, as the world has it": round(float(right[part].mean()), 3) for name, part in _parts(texts).items()}


def _parts(texts: list[LiarText]) -> dict[str, np.ndarray]:
    lies, told = np.array([t.lie for t in texts]), np.array([t.told for t in texts])
    return {"truths": ~lies, "lies": lies, **{f"answers given {word}": told == word for word in LIAR_TOLD}}
