"""Stand-ins of what papers/dtsne/paper.yml names: a small MNIST of random pictures."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {
    "image_rows": 80,
    "cluster_size": 30,
    "sample_sizes": [30, 40, 50],
    "ten_cluster_size": 20,
    "components": 10,
    "perplexity": 8,
    "perplexities": [5, 8],
    "neighbours": 7,
    "small_neighbours": 7,
    "n_iter": 20,
    "exaggeration_iter": 10,
    "umap_epochs": 10,
}


def build(hub: Path) -> None:
    tiny_image_dataset(data_folder(hub, "ylecun/mnist"), n=160, n_classes=10, shape=(1, 28, 28))
