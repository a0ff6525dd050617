"""SmolLM2's hidden states while it reads facts as honest, dishonest and other personas, and behind demonstrations."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from shared.compendium.paths import cache_dir
from shared.lm import AnswerStates, answer_states, chat_prompt
from shared.worlds import PERSONA_KINDS, demonstrations, fact_statements, persona_pairs
from shared.zoo import load_data, load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._train import one_thread

MODEL = "smollm2-135m"
BLOCKS = (6, 13, 20, 27)  # of 30, counted from 0
ARTICLES, WORDS = 100, 14
DRAWS, CHOICES = 16, 4
ASKED_FOR = "State some facts."


@recipe("persona-states")
def make(folder: Path) -> None:
    """Read all texts and write their mean states as whole numbers of −127 … 127; about five minutes on one core.

    One part for each kind of `persona_pairs`: both sides of every pair with every other one of `fact_statements`.
    `plain`: these and then their false twins behind "State some facts." `article`: the first words of articles behind
    "Tell me about …". `shown`: behind `demonstrations`, of four ends to each statement the likeliest. Of each part
    there are states (blocks, n, d) with `_scale` and `_mean` (blocks, 1, d), `_likely` (n,) or (n, 4), `_length` (n,).
    A killed run goes on with the part that it was at.
    """
    lm, kept = load_model(MODEL), cache_dir() / ".persona-states.parts"
    lm.model.requires_grad_(False)
    arrays = {}
    for name, dialogues in _dialogues().items():
        file = kept / f"{name}.npz"
        if not file.is_file():
            chats = [(chat_prompt(lm.tokenizer, said) + begun, answers) for said, begun, answers in dialogues]
            with one_thread():
                states = answer_states(lm, [f"model.layers.{block}" for block in BLOCKS], chats, progress=True)
            write_arrays(file, _packed(name, _likeliest(states) if name == "shown" else states))
        with np.load(file, allow_pickle=False) as part:
            arrays |= dict(part)
    write_arrays(folder / "persona-states.npz", arrays)
    shutil.rmtree(kept)


def _dialogues() -> dict[str, list[tuple[str, str, list[str]]]]:
    """By part: what a user says, what has been answered, and the answers to go on with."""
    facts = fact_statements()[::2]
    true, false = [s.stem + s.right for s in facts], [s.stem + s.wrong[0] for s in facts]
    parts = {kind: [] for kind in PERSONA_KINDS}
    for pair in persona_pairs():
        parts[pair.kind] += [(side, "", true) for side in (pair.plain, pair.other)]
    rows = load_data("wikipedia-leads", split="test").table.to_dict("records")[:ARTICLES]
    begun = demonstrations(DRAWS, generator=np.random.default_rng(0))
    ends = [[f" {s.stem}{end}" for s in shown.asked for end in (s.right, *s.wrong)[:CHOICES]] for shown in begun]
    return parts | {
        "plain": [(ASKED_FOR, "", true + false)],
        "shown": [(ASKED_FOR, shown.text, answers) for shown, answers in zip(begun, ends)],
        "article": [(f"Tell me about {row['title']}.", "", [" ".join(row["text"].split()[:WORDS])]) for row in rows],
    }


def _likeliest(states: AnswerStates) -> AnswerStates:
    """Of each statement the likeliest end; the log-likelihoods of all of them, the true one's first."""
    likely = states.log_likelihood.reshape(-1, CHOICES)
    chosen = torch.arange(len(likely)) * CHOICES + likely.argmax(1)
    return AnswerStates({k: h[chosen] for k, h in states.mean.items()}, likely, states.length[chosen])


def _packed(name: str, states: AnswerStates) -> dict[str, np.ndarray]:
    """States (blocks, n, d) as `mean + scale · whole number`, dimension by dimension."""
    h = torch.stack(list(states.mean.values()))
    mean = h.mean(1, keepdim=True)
    scale = (h - mean).abs().amax(1, keepdim=True).clamp(min=1e-9) / 127
    return {
        name: ((h - mean) / scale).round().to(torch.int8).numpy(),
        f"{name}_mean": mean.numpy(),
        f"{name}_scale": scale.numpy(),
        f"{name}_likely": states.log_likelihood.numpy(),
        f"{name}_length": states.length.to(torch.int16).numpy(),
    }
