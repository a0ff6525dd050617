"""Tiny stand-ins: a ResNet with the modules of the paper scale's, random images with 40 random attributes."""

from pathlib import Path

import numpy as np

from tests.papers.hub import data_folder, tiny_resnet


def build(hub: Path) -> None:
    tiny_resnet(
        hub / "microsoft" / "resnet-18",
        embedding_size=8,
        hidden_sizes=[16, 32, 64, 64],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        num_labels=10,
    )
    rng, data = np.random.default_rng(0), data_folder(hub, "local/celeba-attributes")
    data.mkdir(parents=True)
    x, y = rng.random((220, 3, 32, 32), dtype=np.float32), rng.integers(0, 2, (220, 40))
    np.savez(data / "train.npz", x=x, y=y)


PARAMETERS = {
    **{"n_seeds": 1, "n_pilots": 1, "alphas": [0.1], "epochs": 1, "n_fit": 120, "n_held": 60, "n_images": 160},
    **{"batch_size": 100, "planting": 2, "n_edits": 2, "steps": [1.0]},
}
