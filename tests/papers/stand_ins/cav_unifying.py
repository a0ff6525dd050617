"""Tiny stand-ins: a ResNet with the modules of the paper scale's, random images for its two data sets."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset, tiny_resnet


def build(hub: Path) -> None:
    tiny_resnet(
        hub / "microsoft" / "resnet-50",
        embedding_size=8,
        hidden_sizes=[16, 16, 32, 32],
        depths=[1, 1, 1, 1],
        layer_type="bottleneck",
        num_labels=1000,
    )
    images, textures = data_folder(hub, "benjamin-paine/imagenet-1k-256x256"), data_folder(hub, "tanganke/dtd")
    tiny_image_dataset(images, n=700, n_classes=350, shape=(3, 64, 64), split="validation")
    tiny_image_dataset(textures, n=400, n_classes=40, shape=(3, 64, 64), split="train")


PARAMETERS = {
    **{
        "n_seeds": 1,
        "n_pilots": 1,
        "mc_draws": 80,
        "n_concept": 12,
        "n_pool": 60,
        "n_test": 2,
        "n_set": 5,
        "n_natural": 10,
    },
    **{"photo_crops": 3, "photo_set": 5},
}
