"""Stand-ins of what papers/jedi_confetti/paper.yml names: a small Fashion-MNIST of random pictures."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {
    "n_seeds": 2,
    "n": 110,
    "n_iter": 10,
    "exaggeration_iter": 5,
    "restarts": 1,
    "shares": [1, 2],
    "image_rows": 100,
    "cell_rows": 110,
}


def build(hub: Path) -> None:
    tiny_image_dataset(data_folder(hub, "zalando-datasets/fashion_mnist"), n=420, n_classes=10, shape=(1, 28, 28))
