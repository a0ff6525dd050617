"""Stand-ins for pxp's paper scale: a ResNet with batch norm, and ImageNet's two splits with four of its classes."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset, tiny_resnet

PARAMETERS = {
    **{"n_tasks": 2, "n_pilots": 1, "n_gates": 1, "n_references": 2, "n_evaluation": 2, "n_trials": 2, "n_rates": 2},
}


def build(hub: Path) -> None:
    tiny_resnet(
        hub / "microsoft" / "resnet-18",
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        num_labels=1000,
    )
    folder = data_folder(hub, "ILSVRC/imagenet-1k")
    for split, rows in (("train", 12), ("validation", 16)):
        tiny_image_dataset(folder, n=rows, n_classes=4, shape=(3, 72, 72), split=split)
