"""Stand-in for the authors' disease table: its columns, a few random rows. The rest of the paper scale is synthetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tests.papers.hub import data_folder

_TINY = {"n_hidden": 6, "epochs": 1, "batch_size": 64}
PARAMETERS = {
    "seeds": 2,
    "n_features": 80,
    "rows_per_class": 60,
    "patterns_per_class": 4,
    "background": 4,
    "n_hidden": 8,
    "epochs": 2,
    "destructive": [0.025, 0.2],
    "additive": [10, 20],
    "classes": [{"n_classes": 3, "n_hidden": 8, "lr": 0.005, "head_reg": [1.5, 1.5]}],
    "premise_classes": 3,
    "scaling_rows": 60,
    "scaling_seeds": 2,
    "scaling": [
        {"n_features": 100, "weight_decay": 1.0, **_TINY},
        {"n_features": 1000, "lambda_c": 30.0, "w_reg": [5.0, 5.0], "head_reg": [10.0, 10.0], **_TINY},
    ],
    "cell_types": ["B", "monocyte"],
    "n_genes": 40,
    "disease_hidden": 8,
    "disease_epochs": 1,
    "table_steps": [10, 12, 15],
}


def build(hub: Path) -> None:
    """Write data/disease_symptom.csv: a disease and up to 17 symptoms a row, with stray blanks as in the original."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        disease = number % 4
        symptoms = {f"symptom_{s}" for s in (disease, disease + 1, *rng.integers(0, 12, 2))}
        rows.append([f"Disease {disease} ", *(f" {s}" for s in sorted(symptoms))])
    frame = pd.DataFrame([row + [None] * (18 - len(row)) for row in rows])
    frame.columns = ["Disease", *(f"Symptom_{i}" for i in range(1, 18))]
    folder = data_folder(hub, "nilspwalter/diffnaps") / "data"
    folder.mkdir(parents=True)
    frame.to_csv(folder / "disease_symptom.csv", index=False)
