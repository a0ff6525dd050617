"""Tiny stand-ins: random images for the paper scale's two data sets; the notebook makes its networks itself."""

import shutil
from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {
    "n_seeds": 2,
    "n_train": 60,
    "n_test": 12,
    "n_foreign": 8,
    "epochs": 2,
    "pool": 2,
    "passes": 2,
    "halves": 2,
    "projection": 16,
    "tracin_projection": 16,
}


def build(hub: Path) -> None:
    mnist = data_folder(hub, "ylecun/mnist")
    for split, n in (("train", 320), ("test", 40)):
        tiny_image_dataset(mnist, n=n, n_classes=10, shape=(1, 28, 28), split=split)
    other = data_folder(hub, "zalando-datasets/fashion_mnist")  # laid out as MNIST: PNGs of one size
    shutil.copytree(mnist / "mnist", other / "fashion_mnist")
