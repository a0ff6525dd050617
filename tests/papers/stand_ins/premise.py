"""Stand-in for the published misclassification tables: the same files with a few random rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.papers.hub import WORDS, data_folder

TABLE = "lxmert_vqa_minival_lxr955_no-answers-as-features"
PARAMETERS = {"n_rows": 400, "n_items": [100], "minority": [0.2], "noise": [0.0], "n_seeds": 2}


def write_table(folder: Path, name: str, n_rows: int = 300) -> None:
    """Rows of random words with a link of some words to errors, as the authors' files."""
    rng = np.random.default_rng(0)
    words = list(dict.fromkeys(WORDS))[:60]
    y = (rng.random(n_rows) < 0.75).astype(int)
    X = rng.random((n_rows, len(words))) < 0.1
    X[:, :2] |= ((y == 0) & (rng.random(n_rows) < 0.5))[:, None]
    folder.mkdir(parents=True, exist_ok=True)
    rows = [" ".join(map(str, np.flatnonzero(row))) for row in X]
    (folder / f"{name}_features.dat").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / f"{name}_labels.dat").write_text("\n".join(map(str, y)) + "\n", encoding="utf-8")
    vocabulary = {word: i for i, word in enumerate(words)}
    (folder / f"{name}_vocabulary.json").write_text(json.dumps(vocabulary), encoding="utf-8")


def build(hub: Path) -> None:
    """Write the LXMERT table where paper.yml looks for it."""
    write_table(data_folder(hub, "uds-lsv/premise") / "data" / "misclass_data" / "vqa_lxmert", TABLE)
