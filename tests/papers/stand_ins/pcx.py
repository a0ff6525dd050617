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
    for split, n in (("train", 80), ("test", 80)):
        tiny_image_dataset(data_folder(hub, "uoft-cs/cifar10"), n=n, n_classes=10, shape=(3, 32, 32), split=split)


PARAMETERS = {
    **{"n_networks": 2, "n_pilots": 1, "n_train": 8, "n_test": 3, "n_prototypes": [1, 4], "n_faithful": 8},
    **{"steps": 2, "n_draws": 2, "n_shapes": 30},
}
