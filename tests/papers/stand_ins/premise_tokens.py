"""Stand-ins for the published misclassification tables and for the sentence encoder that gives word vectors."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import data_folder, tiny_bert
from tests.papers.stand_ins.premise import TABLE, write_table

PARAMETERS = {"n_rows": 300, "n_tokens": 120, "synonyms": [2], "n_seeds": 2, "budgets": [0, 20]}


def build(hub: Path) -> None:
    """Write the LXMERT table and a tiny BERT where paper.yml looks for them."""
    write_table(data_folder(hub, "uds-lsv/premise") / "data" / "misclass_data" / "vqa_lxmert", TABLE)
    tiny_bert(hub / "sentence-transformers" / "all-MiniLM-L6-v2", "BertModel")
