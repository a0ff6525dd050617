"""Tiny stand-ins: random images for the paper scale's data; its network is made by the notebook, a smaller one here."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {
    "model": "cnn",
    "n_seeds": 2,
    "n_train": 100,
    "n_test": 12,
    "epochs": 1,
    "live_epochs": 1,
    "projection": 16,
    "halves": 2,
    "timings": 1,
}


def build(hub: Path) -> None:
    for split, n in (("train", 200), ("test", 40)):
        tiny_image_dataset(data_folder(hub, "uoft-cs/cifar10"), n=n, n_classes=10, shape=(3, 12, 12), split=split)
