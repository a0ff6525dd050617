"""Sizes for the dry run of papers/diffnaps; its paper scale is synthetic."""

from __future__ import annotations

from pathlib import Path

_TINY = {"n_hidden": 6, "epochs": 1, "batch_size": 64}
PARAMETERS = {
    "seeds": 2,
    "n_features": 80,
    "rows_per_class": 60,
    "patterns_per_class": 4,
    "background": 4,
    "network": {"n_hidden": 8, "epochs": 2},
    "destructive": [0.025, 0.2],
    "additive": [10, 20],
    "classes": [{"n_classes": 3, "n_hidden": 8, "epochs": 2, "lr": 0.005, "head_reg": [1.5, 1.5]}],
    "premise_classes": 3,
    "scaling_rows": 60,
    "scaling": [
        {"n_features": 100, "weight_decay": 1.0, **_TINY},
        {"n_features": 1000, "lambda_c": 30.0, "w_reg": [5.0, 5.0], "head_reg": [10.0, 10.0], **_TINY},
    ],
}


def build(hub: Path) -> None:
    """Nothing is fetched."""
