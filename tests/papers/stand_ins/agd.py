"""Stand-ins for AGD's paper scale: a Llama with its tokenizer, which adds a start token and has no chat template."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import tiny_llama

PARAMETERS = {"n_instructions": 8, "n_questions": 4, "n_pilot": 8, "new_tokens": 2}


def build(hub: Path) -> None:
    tiny_llama(hub / "meta-llama" / "Llama-3.1-8B-Instruct", max_position_embeddings=1024)
