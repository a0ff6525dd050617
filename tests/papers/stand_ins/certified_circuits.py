"""Stand-ins for certified_circuits' paper scale: a bottleneck ResNet, and four of ImageNet's classes in both splits."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset, tiny_resnet

PARAMETERS = {
    "n_classes": 2,
    "n_concept": 3,
    "n_own": 2,
    "n_other": 2,
    "shares": [0.3, 0.6, 1.0],
    "shifts": ["noise", "bar"],
}


def build(hub: Path) -> None:
    tiny_resnet(
        hub / "microsoft" / "resnet-101",
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="bottleneck",
        num_labels=1000,
    )
    folder = data_folder(hub, "ILSVRC/imagenet-1k")
    for split, rows in (("train", 24), ("validation", 16)):
        tiny_image_dataset(folder, n=rows, n_classes=4, shape=(3, 72, 72), split=split)
