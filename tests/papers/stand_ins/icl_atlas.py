"""Stand-ins for the atlas's paper scale: a Llama with its tokenizer, which adds a start token."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import tiny_llama

PARAMETERS = {
    **{"n_choose": 2, "n_test": 2, "n_kept": 2, "longest": 60, "batch_size": 4},
    **{"n_heads": 2, "n_random": 1, "n_grammar": 12},
}


def build(hub: Path) -> None:
    tiny_llama(hub / "meta-llama" / "Llama-3.1-8B-Instruct", max_position_embeddings=1024)
