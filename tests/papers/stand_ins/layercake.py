"""Stand-ins for LayerCake's paper scale: a Llama whose tokenizer adds a start token and has nationalities as tokens."""

from __future__ import annotations

from pathlib import Path

from shared.worlds import NATIONALITIES
from tests.papers.hub import WORDS, tiny_llama, tiny_tokenizer

PARAMETERS = {"n_dev": 6, "n_test": 6, "n_open": 2, "new_tokens": 2, "longest": 120}


def build(hub: Path) -> None:
    """Byte-level pieces make its prompts long; the values are tokens of their own."""
    folder = hub / "meta-llama" / "Llama-2-7b-hf"
    tiny_llama(folder, vocab_size=4096)
    tiny_tokenizer(folder, [*WORDS, *NATIONALITIES])
