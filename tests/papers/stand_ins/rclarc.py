"""Tiny stand-ins: a ResNet with the modules of the paper scale's, random images for its data."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset, tiny_resnet


def build(hub: Path) -> None:
    tiny_resnet(
        hub / "microsoft" / "resnet-18",
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        num_labels=1000,
    )
    tiny_image_dataset(data_folder(hub, "uoft-cs/cifar10"), n=300, n_classes=10, shape=(3, 32, 32), split="train")


PARAMETERS = {
    **{"n_seeds": 1, "n_pilots": 1, "n_artifacts": 3, "n_images": 120, "n_test": 40, "n_pairs": 30, "planting": 2},
    **{"n_relevance": 1, "n_crops": 8, "n_draws": 1},
}
