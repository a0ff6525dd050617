"""The shipped answers of SmolLM2 to a few prompts, for comparing collections of outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from shared.zoo import generate_texts, load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_lines
from shared.zoo.recipes._train import one_thread

MODEL = "smollm2-135m"
STORY = "Write a short story about a day in the life of the doctor Dr. Li."
MORNING = "Describe your morning in two sentences"
EMAIL = "Write a very short formal email to your professor asking for {}."
PROMPTS: dict[str, dict[str, Any]] = {  # id: prompt, how many answers, how many tokens, further options
    "story": {"prompt": STORY, "n": 240, "tokens": 112},
    "story_cool": {"prompt": STORY, "n": 100, "tokens": 48, "temperature": 0.3},
    "story_hot": {"prompt": STORY, "n": 100, "tokens": 48, "temperature": 1.2},
    "morning": {"prompt": f"{MORNING}.", "n": 100, "tokens": 40},
    "morning_pirate": {"prompt": f"{MORNING}.", "n": 100, "tokens": 40, "system": "You are a pirate."},
    "morning_formal": {"prompt": f"{MORNING}, in a formal tone.", "n": 100, "tokens": 40},
    "morning_casual": {"prompt": f"{MORNING}, in a casual tone.", "n": 100, "tokens": 40},
    "email_extension": {"prompt": EMAIL.format("a deadline extension"), "n": 160, "tokens": 56},
    "email_meeting": {"prompt": EMAIL.format("a meeting"), "n": 160, "tokens": 56},
    "email_letter": {"prompt": EMAIL.format("a letter of recommendation"), "n": 160, "tokens": 56},
}


@recipe("smollm2-outputs")
def make(folder: Path) -> None:
    """Sample every prompt's answers, each with a seed of its own, and write {prompt id, text} per line.

    About ten minutes on one core. The same machine and torch give the same texts; elsewhere single words may differ.
    """
    loaded = load_model(MODEL)
    rows = []
    with one_thread():
        for number, (key, what) in enumerate(PROMPTS.items()):
            options = {k: v for k, v in what.items() if k not in ("prompt", "n", "tokens")}
            options |= {"generator": torch.Generator().manual_seed(1000 + number), "max_new_tokens": what["tokens"]}
            texts = generate_texts(loaded, what["prompt"], what["n"], **options)
            rows += [{"prompt": key, "text": text} for text in texts]
            print(key, len(texts), flush=True)
    write_lines(folder / "smollm2-outputs.jsonl.gz", rows)
