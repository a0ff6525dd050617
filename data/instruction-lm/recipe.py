"""A small language model of sentences under an instruction, sometimes followed; its truth is in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.worlds import InstructionPrompt, instruction_prompts, instruction_texts, instruction_world
from shared.zoo import load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._decoders import Grammar, ship_decoder

NAME = "instruction-lm"
WORLD = instruction_world(generator=np.random.default_rng(0))
GIVEN = 4  # tokens that can't be known: start, instruction, colon, opener
OTHERS = 0.02  # their weight
LAST, ECHO = -2, 8.0  # the last noun, and its weight where it is to repeat the first
VERBS = {"see", "sees", "help", "helps"}


@recipe(NAME)
def make(folder: Path) -> None:
    """Make the asset's files and its card."""
    ship_decoder(
        folder,
        Grammar(
            title="Small language model of known grammar: instructions that one word in five heeds",
            words=WORLD.vocabulary,
            texts=_texts,
            weights=_weights,
            measure=measure,
            drawn="shared.worlds.instruction_texts",
            steps=1600,
            notes=(
                "Its world is instruction_world(generator=numpy.random.default_rng(0)), which knows the probability of "
                "every next word. Texts are split at blanks; the start token <s> stands in front, which the tokenizer "
                "doesn't put there. In half precision; measured on 1,000 new prompts after rounding."
            ),
        ),
    )


def _texts(n: int, generator: np.random.Generator) -> list[str]:
    return instruction_texts(WORLD, n, generator=generator)


def _weights(ids: Tensor) -> Tensor:
    """One for what the grammar tells something about, more for the rare word that hangs on one far before."""
    weights = torch.where(torch.arange(ids.shape[1]) < GIVEN, OTHERS, 1.0).repeat(len(ids), 1)
    weights[ids[:, 1] == WORLD.vocabulary.index("echo"), LAST] = ECHO
    return weights


def _verbs(n: int, generator: np.random.Generator) -> list[InstructionPrompt]:
    """Prompts that end before the verb."""
    prompts = instruction_prompts(WORLD, 20 * n, instructions=["consonants"], generator=generator)
    return [prompt for prompt in prompts if prompt.right & VERBS][:n]


def measure(folder: Path) -> dict[str, float]:
    """How near the next word's probabilities are to the grammar's, on texts that were not trained on."""
    rng = np.random.default_rng(1_000_000)
    prompts, verbs = instruction_prompts(WORLD, 1000, generator=rng), _verbs(200, rng)
    found, agreed = _predicted(folder, prompts), _predicted(folder, verbs)
    known = np.stack([WORLD.next_words(prompt.text) for prompt in prompts])
    right = np.array([[word in prompt.right for word in WORLD.vocabulary] for prompt in prompts])
    may = np.array([[word in prompt.right | prompt.wrong for word in WORLD.vocabulary] for prompt in verbs])
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(known > 0, known * np.log(known / found), 0.0).sum(1)
    return {
        "divergence of the next word's probabilities from the grammar's, nats": round(float(divergence.mean()), 3),
        "probability of words that follow the instruction": round(float((found * right).sum(1).mean()), 3),
        "the same by the grammar": round(float((known * right).sum(1).mean()), 3),
        "probability of verbs that agree with the first noun": round(float((agreed * may).sum(1).mean()), 3),
    }


@torch.no_grad()
def _predicted(folder: Path, prompts: list[InstructionPrompt]) -> np.ndarray:
    """Probabilities (n, V) of the next word."""
    loaded = load_model(str(folder))
    batch = loaded.tokenizer(
        [f"<s> {p.text}" for p in prompts], return_tensors="pt", padding=True, padding_side="right"
    )
    lengths = torch.tensor([len(p.text.split()) for p in prompts])
    logits = loaded.model(batch["input_ids"]).logits[torch.arange(len(prompts)), lengths]
    return logits.double().softmax(-1).numpy()
