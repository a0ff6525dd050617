"""A tiny CIFAR-10 for the dry run of papers/fedentopt at paper scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PARAMETERS = {
    "seeds": 1,
    "sweep_seeds": 1,
    "clients": 6,
    "per_round": 2,
    "few": 1,
    "rounds": 2,
    "second_rounds": 1,
    "epochs": 1,
    "last": 1,
    "epsilons": [0.5],
    "buffers": [0.0, 0.5],
}


def build(hub: Path) -> None:
    folder = hub / "datasets" / "uoft-cs" / "cifar10"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, size in (("train", 30), ("test", 10)):
        x = rng.random((size, 3, 32, 32), dtype=np.float32)
        np.savez(folder / f"{split}.npz", x=x, y=np.arange(size) % 10)
