"""Stand-ins for the chat model, a tiny Llama without a chat template, and for the authors' published e-mails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.papers.hub import WORDS, data_folder, tiny_llama

PARAMETERS = {
    "n_prompt": 8,
    "new_tokens": 24,
    "group_sizes": [4, 6],
    "null_size": 10,
    "n_draws": 2,
}


def build(hub: Path) -> None:
    """Write the model and the e-mails of ten prompts where paper.yml looks for them."""
    tiny_llama(hub / "meta-llama" / "Llama-2-7b-chat-hf")
    folder = data_folder(hub, "mainlp/spotlight") / "data" / "1. Benchmarks" / "Benchmark 2"
    gold = folder / "Pattern Results" / "PySubgroup (depth 4)"
    gold.mkdir(parents=True)
    (folder / "Data").mkdir()
    rng = np.random.default_rng(0)
    emails = {}
    for number in range(10):
        plain = [" ".join(rng.choice(WORDS, 12)) for _ in range(24)]
        casual = [f"{text} 😊" for text in plain[12:]]
        emails[f"prompt_{number + 1}"] = {"group_0_sample": plain[:12], "group_1_sample": casual}
        found = {"title": "", "found_patterns": [["😊", "the"]], "gold_patterns": [["😊"], ["Dear", "Professor"]]}
        (gold / f"subgroup_prompt_{number}.json").write_text(json.dumps(found), encoding="utf-8")
    (folder / "Data" / "benchmark2_texts.json").write_text(json.dumps(emails), encoding="utf-8")
