"""Tiny stand-ins: a DINOv2 and a ResNet with the modules of the paper scale's judges, random images for its data."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_dinov2, tiny_image_dataset, tiny_resnet

PARAMETERS = {
    **{"widths": [8, 8, 8, 8], "training": 3, "n_draws": 2, "n_pilots": 1, "n_train": 20, "n_eval": 24, "steps": 4},
    **{
        "n_concepts": 16,
        "k": 4,
        "n_parts": 6,
        "n_fewer": 4,
        "passes": 2,
        "places": 8,
        "n_judged": 3,
        "n_deleted": 3,
        "n_masks": 4,
    },
}


def build(hub: Path) -> None:
    tiny_dinov2(hub / "facebook" / "dinov2-small")
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    tiny_resnet(hub / "microsoft" / "resnet-18", **sizes, num_labels=10)
    for split in ("train", "test"):
        tiny_image_dataset(data_folder(hub, "uoft-cs/cifar10"), n=120, n_classes=3, shape=(3, 32, 32), split=split)
