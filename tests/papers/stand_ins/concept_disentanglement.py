"""Tiny stand-ins: a ResNet with the modules of the paper scale's, random images with 40 random attributes, a Llama."""

from pathlib import Path

import numpy as np

from tests.papers.hub import data_folder, tiny_llama, tiny_resnet


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
    x, y = rng.random((120, 3, 32, 32), dtype=np.float32), rng.integers(0, 2, (120, 40))
    np.savez(data / "train.npz", x=x, y=y)
    tiny_llama(hub / "HuggingFaceTB" / "SmolLM2-135M-Instruct", num_hidden_layers=15, start=False)


PARAMETERS = {
    "n_seeds": 1,
    "n_fit": 300,
    "n_held": 100,
    "epochs": 2,
    "batch_size": 100,
    "alphas": [0.0, 0.01],
    "real_epochs": 2,
    "n_images": 80,
    "n_codes": 150,
    "n_edits": 2,
    "steps": [1.0],
}
