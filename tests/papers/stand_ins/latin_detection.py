"""Stand-in for the chat model of Latin detection's paper scale: a tiny Llama with its tokenizer."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import tiny_llama

PARAMETERS = {"max_gram": 2, "every": 40}


def build(hub: Path) -> None:
    """Write the model under its hub id."""
    tiny_llama(hub / "HuggingFaceTB" / "SmolLM2-1.7B-Instruct")
