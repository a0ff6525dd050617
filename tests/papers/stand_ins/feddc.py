"""A tiny CIFAR-10 for the dry run of papers/feddc at paper scale."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {
    "seeds": 2,
    "steps": 10,
    "average_every": 5,
    "image_clients": 2,
    "image_samples": 2,
    "image_steps": 1,
    "image_average_every": 1,
    "image_lr_decay_every": 1,
}


def build(hub: Path) -> None:
    for split, n in (("train", 12), ("test", 6)):
        tiny_image_dataset(data_folder(hub, "uoft-cs/cifar10"), n=n, n_classes=10, shape=(3, 32, 32), split=split)
