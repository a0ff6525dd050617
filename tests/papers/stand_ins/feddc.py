"""A tiny CIFAR-10 for the dry run of papers/feddc at paper scale."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

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
    for split, n in (("train", 20), ("test", 10)):
        tiny_image_dataset(data_folder(hub, "uoft-cs/cifar10"), n=n, n_classes=10, shape=(3, 32, 32), split=split)
