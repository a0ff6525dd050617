"""Sizes for the dry run of papers/plant_n_seek; its data are made by the notebook."""

from __future__ import annotations

from pathlib import Path

PARAMETERS = {
    **{"n_seeds": 2, "n_pilots": 2, "n_train": 60, "n_test": 40, "densities": [0.1, 0.01], "rounds": 2},
    **{"steps_round": 1, "steps_final": 1, "batch": 20, "popup_batch": 60, "score_rows": 20},
    **{"popup_rows": 60, "popup_epochs": 1, "popup_keeps": [0.5, 0.1], "pixel_steps": 1},
}


def build(hub: Path) -> None:
    """Nothing is fetched."""
