"""Stand-ins for AttnLRP's paper scale: a Llama with its tokenizer, questions with their passages, and texts."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import data_folder, sentences, tiny_llama, tiny_text_dataset

PARAMETERS = {"n_prompts": 2, "n_pilot": 2, "n_texts": 3, "n_tokens": 12, "removal_steps": 3}


def build(hub: Path) -> None:
    tiny_llama(hub / "meta-llama" / "Llama-2-7b-hf")
    contexts = sentences(10)
    words = [context.split() for context in contexts]
    answers = [{"text": [w[3]], "answer_start": [len(" ".join(w[:3])) + 1]} for w in words]
    answers[1] = {"text": [], "answer_start": []}  # as in SQuAD 2, a question without an answer
    questions = ["what was made after the war?"] * len(contexts)
    squad = {"context": contexts, "question": questions, "answers": answers}
    tiny_text_dataset(data_folder(hub, "rajpurkar/squad_v2"), squad, split="validation")
    wikitext = data_folder(hub, "Salesforce/wikitext")
    for config in ("wikitext-2-raw-v1", "wikitext-103-raw-v1"):  # one must be named
        tiny_text_dataset(wikitext / config, {"text": ["", *sentences(8)]}, split="test")
