"""Stand-ins of what papers/mercat/paper.yml names: a small MNIST of random pictures."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {
    "n": 120,
    "image_rows": 100,
    "batch_points": 10,
    "n_iter": 10,
    "batch_sizes": [5, 10],
    "bias_points": 30,
    "tsne_iter": 20,
    "mds_up_to": 100,
    "umap_epochs": 10,
}


def build(hub: Path) -> None:
    tiny_image_dataset(data_folder(hub, "ylecun/mnist"), n=100, n_classes=10, shape=(1, 28, 28))
