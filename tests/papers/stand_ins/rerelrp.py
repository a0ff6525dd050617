"""A tiny CIFAR-10, and VGG11's layers with an eighth of the channels, for papers/rerelrp at paper scale."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {
    "n_units": 1,
    "n_pilots": 1,
    "n_train": 6,
    "n_val": 3,
    "n_test": 3,
    "layers": [[8, 3, 1], "M", [16, 3, 1], "M", [32, 3, 1], [32, 3, 1], "M", [64, 3, 1], [64, 3, 1], "M", 32],
    "epochs": 1,
    "max_evals": 2,
    "n_relevance": 3,
    "n_trees": 2,
}


def build(hub: Path) -> None:
    for split, n in (("train", 160), ("test", 80)):
        tiny_image_dataset(data_folder(hub, "uoft-cs/cifar10"), n=n, n_classes=10, shape=(3, 32, 32), split=split)
