"""Tiny stand-ins: random images for the paper scale's data; its network is made by the notebook, a smaller one here."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {
    **{
        "model": "cnn",
        "n_seeds": 2,
        "n_pilots": 2,
        "n_tuning": 1,
        "n_train": 24,
        "n_valid": 12,
        "n_test": 24,
        "n_probe": 12,
    },
    **{"epochs": 1, "batch": 12, "grid": [[0.5, 0.4]]},
}


def build(hub: Path) -> None:
    for split, n in (("train", 60), ("test", 40)):
        tiny_image_dataset(data_folder(hub, "uoft-cs/cifar10"), n=n, n_classes=10, shape=(3, 32, 32), split=split)
