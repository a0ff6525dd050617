"""A tiny CIFAR-10, of small images, for the dry run of papers/fedentopt at paper scale."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {"seeds": 2, "clients": 3, "per_round": 1, "rounds": 1, "epochs": 1, "evaluate_every": 1, "last": 1}


def build(hub: Path) -> None:
    for split, n in (("train", 9), ("test", 3)):
        tiny_image_dataset(data_folder(hub, "uoft-cs/cifar10"), n=n, n_classes=10, shape=(3, 16, 16), split=split)
