"""Tiny stand-ins: random images for CIFAR-10; the notebook makes its networks, a dense one here."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {
    **{"net": "mlp", "width": 10, "n_seeds": 2, "n_pilots": 2, "n_train": 24, "n_test": 20},
    **{"n_circle": 128, "circle_epochs": 2, "epochs": 4, "levels": 2, "batch": 32},
    **{"target_width": 4, "copies": [2, 4, 6], "n_targets": 2},
}


def build(hub: Path) -> None:
    for split, n in (("train", 60), ("test", 40)):
        tiny_image_dataset(data_folder(hub, "uoft-cs/cifar10"), n=n, n_classes=10, shape=(3, 32, 32), split=split)
