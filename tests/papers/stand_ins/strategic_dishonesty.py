"""Stand-ins for strategic_dishonesty's paper scale: a Qwen3, whose tokenizer adds no start, and a sentence encoder."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import tiny_bert, tiny_qwen3

PARAMETERS = {"n_articles": 12, "n_draws": 2, "n_sums": 80, "blocks": [0, 1]}


def build(hub: Path) -> None:
    """Write both where paper.yml looks for them."""
    tiny_bert(hub / "sentence-transformers" / "all-MiniLM-L6-v2", "BertModel")
    tiny_qwen3(hub / "Qwen" / "Qwen3-32B")
