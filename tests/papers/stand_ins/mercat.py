"""Stand-ins of what papers/mercat/paper.yml names: a small MNIST of random pictures."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {
    "n_seeds": 2,
    "n": 100,
    "batch_points": 10,
    "n_iter": 10,
    "bias_points": 30,
    "dimensions": [10, 50],
    "tsne_iter": 20,
    "mds_up_to": 50,
}


def build(hub: Path) -> None:
    tiny_image_dataset(data_folder(hub, "ylecun/mnist"), n=150, n_classes=10, shape=(1, 28, 28))
