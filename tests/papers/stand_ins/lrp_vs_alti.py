"""Stand-ins for the paper scale of ALTI-Logit against AttnLRP: a Llama, a GPT-2, a masked BERT, natural sentences."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tests.papers.hub import data_folder, tiny_bert, tiny_gpt2, tiny_llama

PARAMETERS = {"n_sentences": 4, "n_pilot": 2, "n_ablation": 2}
SENTENCES = [  # as in the table: words and marks apart, the verb's and the subject's place counted from 1
    ("the key to the door that she made is old .", 2, 9, "is", "are"),
    ("the authors of the book that was first called are great .", 2, 10, "are", "is"),
    ("after the war , the king with the red books was not known .", 6, 11, "was", "were"),
    ("the houses near the river were built by the people .", 2, 6, "were", "was"),
    ("the dog behind the tables that they made has been called bad .", 2, 9, "has", "have"),
    ("the birds near the garden by the house are blue .", 2, 9, "are", "is"),
    ("the film on the old schools overturns much .", 2, 7, "overturns", "overturn"),  # no single token: left out
]


def build(hub: Path) -> None:
    tiny_llama(hub / "meta-llama" / "Meta-Llama-3-8B")
    tiny_gpt2(hub / "openai-community" / "gpt2")
    tiny_bert(hub / "google-bert" / "bert-base-uncased", "BertForMaskedLM")
    folder = data_folder(hub, "yoavg/bert-syntax")
    folder.mkdir(parents=True)
    words = [text.split() for text, *_ in SENTENCES]
    masked = [" ".join([*w[: at - 1], "***mask***", *w[at:]]) for w, (_, _, at, _, _) in zip(words, SENTENCES)]
    pairs = [(1, text, mask, verb, foil) for mask, (text, _, _, verb, foil) in zip(masked, SENTENCES)]
    pd.DataFrame(pairs).to_csv(folder / "lgd_dataset.tsv", sep="\t", header=False, index=False)
    parsed = [{"orig_sentence": text, "subj_index": subject, "verb_index": at} for text, subject, at, _, _ in SENTENCES]
    pd.DataFrame(parsed).to_csv(folder / "agr_50_mostcommon_10K.tsv", sep="\t", index=False)
