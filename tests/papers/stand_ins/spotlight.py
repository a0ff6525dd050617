"""Stand-in for the chat model: a tiny Llama without a chat template."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import tiny_llama

PARAMETERS = {
    "n_story": 24,
    "n_email": 8,
    "n_prompt": 8,
    "new_tokens": 24,
    "short_tokens": 24,
    "group_sizes": [4, 6],
    "email_group": 10,
    "null_size": 10,
    "n_draws": 2,
}


def build(hub: Path) -> None:
    """Write the model under the id that paper.yml names."""
    tiny_llama(hub / "meta-llama" / "Llama-2-7b-chat-hf")
