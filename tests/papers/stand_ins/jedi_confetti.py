"""Stand-ins of what papers/jedi_confetti/paper.yml names: a small MNIST of random pictures."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {
    "n": 110,
    "n_iter": 10,
    "exaggeration_iter": 5,
    "digits_rows": 100,
    "cell_rows": 110,
    "umap_epochs": 10,
}


def build(hub: Path) -> None:
    tiny_image_dataset(data_folder(hub, "ylecun/mnist"), n=100, n_classes=10, shape=(1, 28, 28))
