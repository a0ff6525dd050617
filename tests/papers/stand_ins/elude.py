"""Stand-ins for ELUDe's paper scale: a Llama with its tokenizer, which adds a start token."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import tiny_llama

PARAMETERS = {
    **{"layers": [0, 1], "n_texts": 24, "n_tokens": 9, "n_units": 3, "n_pilot": 2, "n_top": 5, "n_ref": 20},
    **{"k_max": 3, "batch_size": 8},
}


def build(hub: Path) -> None:
    tiny_llama(hub / "HuggingFaceTB" / "SmolLM2-1.7B")
