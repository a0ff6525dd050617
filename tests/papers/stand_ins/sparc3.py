"""Stand-ins for SparC³'s paper scale: a Llama with its tokenizer, and WikiText."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import data_folder, sentences, tiny_llama, tiny_text_dataset

PARAMETERS = {
    "n_tokens": 14,
    "n_references": 3,
    "n_texts": 3,
    "n_pilot": 3,
    "rates": [0.5],
    "n_task_references": 3,
    "n_prompts": 3,
    "shares": [0.5, 0.2],
    "head_counts": [1, 2],
}


def build(hub: Path) -> None:
    tiny_llama(hub / "TinyLlama" / "TinyLlama-1.1B-Chat-v1.0")
    wikitext = data_folder(hub, "Salesforce/wikitext")
    for split in ("train", "validation", "test"):
        tiny_text_dataset(wikitext / "wikitext-2-raw-v1", {"text": ["", *sentences(8)]}, split=split)
