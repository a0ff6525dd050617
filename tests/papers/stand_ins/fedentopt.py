"""A tiny CIFAR-10 for the dry run of papers/fedentopt at paper scale."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

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
    for split, n in (("train", 30), ("test", 10)):
        tiny_image_dataset(data_folder(hub, "uoft-cs/cifar10"), n=n, n_classes=10, shape=(3, 32, 32), split=split)
