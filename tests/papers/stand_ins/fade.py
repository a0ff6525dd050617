"""Stand-ins for FADE's paper scale: two Llamas with their tokenizers, which add a start token, and an encoder."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import tiny_bert, tiny_llama

PARAMETERS = {
    **{"layer": 1, "n_latents": 24, "n_units": [4, 4, 2], "n_describe": 60, "n_judged": 60, "longest": 8},
    **{"n_rated": 40, "synthetic": 2, "factors": [0, 10], "n_prompts": 2, "steps": 2, "n_planted": 1},
    **{"well": 0.0, "vague": -0.9, "clear": 0.0},
}


def build(hub: Path) -> None:
    tiny_llama(hub / "meta-llama" / "Llama-3.1-8B")
    tiny_llama(hub / "meta-llama" / "Llama-3.1-8B-Instruct")
    tiny_bert(hub / "sentence-transformers" / "all-MiniLM-L12-v2", "BertModel")
