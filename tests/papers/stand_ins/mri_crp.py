"""Sizes for the dry run of papers/mri_crp; its subjects are simulated."""

from __future__ import annotations

from pathlib import Path

PARAMETERS = {
    **{"n_seeds": 2, "n_pilots": 2, "n_test": 8, "n_explained": 2, "stride": 2},
    **{"n_train": 8, "steps": 1, "batch": 2},
}


def build(hub: Path) -> None:
    """Nothing is fetched."""
