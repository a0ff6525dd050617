"""Stand-ins for ASIDE's paper scale: a Llama to fine-tune, one for its embeddings, and a table of Alpaca's columns."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import data_folder, sentences, tiny_llama, tiny_text_dataset

PARAMETERS = {
    **{"n_networks": 2, "n_items": 6, "n_fit": 6, "n_articles": 3, "n_read": 2, "longest": 60},
    **{"tuning_rows": 12, "tuning_steps": 2, "tuning_batch": 2, "n_tuned": 2, "n_attacks": 2, "new_tokens": 2},
}


def build(hub: Path) -> None:
    for name in ("Qwen/Qwen2.5-7B", "HuggingFaceTB/SmolLM2-135M"):
        tiny_llama(hub / name, start=False, max_position_embeddings=1024)
    asked, given, said = sentences(12, 6), sentences(12, 10), sentences(12, 5)
    given[::3] = [""] * 4  # a third of the rows has no input
    columns = {"instruction": asked, "input": given, "output": said, "text": asked}
    tiny_text_dataset(data_folder(hub, "tatsu-lab/alpaca"), columns)
