"""A tiny CIFAR-10 for the dry run of papers/feddc at paper scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PARAMETERS = {
    "seeds": 1,
    "steps": 10,
    "average_every": 5,
    "daisy_periods": [1, 5],
    "image_clients": 3,
    "image_samples": 2,
    "image_steps": 2,
    "image_average_every": 2,
    "image_lr_decay_every": 1,
    "local_sizes": [5, 16],
    "image_central_batch": 4,
    "radon_seeds": 1,
    "radon_steps": 10,
}


def build(hub: Path) -> None:
    folder = hub / "datasets" / "uoft-cs" / "cifar10"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, size in (("train", 20), ("test", 10)):
        x = rng.random((size, 3, 32, 32), dtype=np.float32)
        np.savez(folder / f"{split}.npz", x=x, y=np.arange(size) % 10)
