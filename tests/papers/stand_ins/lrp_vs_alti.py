"""Stand-ins for the paper scale of ALTI-Logit against AttnLRP: a Llama, a GPT-2 and a masked BERT."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import tiny_bert, tiny_gpt2, tiny_llama

PARAMETERS = {"sentences_per_seed": 4, "seeds": 2, "gradient_steps": 2}


def build(hub: Path) -> None:
    tiny_llama(hub / "meta-llama" / "Meta-Llama-3-8B")
    tiny_gpt2(hub / "openai-community" / "gpt2")
    tiny_bert(hub / "google-bert" / "bert-base-uncased", "BertForMaskedLM")
