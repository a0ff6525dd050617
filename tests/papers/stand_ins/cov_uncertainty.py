"""A tiny California housing table for the dry run of papers/cov_uncertainty at paper scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.papers.hub import data_folder, tiny_text_dataset

PARAMETERS = {
    "runs": 2,
    "train_share": 0.02,
    "corner_rows": 60,
    "n_masks": 3,
    "hidden": [6, 5, 4],
    "batch": 20,
    "epochs": 2,
    "ig_steps": 2,
    "permutations": 2,
    "lime_samples": 20,
    "n_points": 4,
    "random_orders": 2,
    "draws": 2,
    "flip_steps": 3,
    "kernels": 100,
}
COLUMNS = "MedInc HouseAge AveRooms AveBedrms Population AveOccup Latitude Longitude MedHouseVal".split()


def build(hub: Path) -> None:
    rng = np.random.default_rng(0)
    table = {name: rng.random(80).tolist() for name in COLUMNS}
    tiny_text_dataset(data_folder(hub, "gvlassis/california_housing"), table)
