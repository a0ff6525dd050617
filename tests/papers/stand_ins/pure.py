"""Stand-ins for pure's paper scale: a bottleneck ResNet, an OpenCLIP, a DINOv2, ImageNet's two splits."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_dinov2, tiny_image_dataset, tiny_open_clip, tiny_resnet

PARAMETERS = {"n_units": 2, "n_pairs": 2, "n_pictures": 16, "n_pilot": 16, "n_refs": 6, "k_list": [2]}


def build(hub: Path) -> None:
    tiny_resnet(
        hub / "microsoft" / "resnet-50",
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="bottleneck",
        num_labels=1000,
    )
    tiny_open_clip(hub / "laion" / "CLIP-ViT-B-32-laion2B-s34B-b79K", layers=2, patch=16)
    tiny_dinov2(hub / "facebook" / "dinov2-base")
    folder = data_folder(hub, "ILSVRC/imagenet-1k")
    for split in ("train", "validation"):
        tiny_image_dataset(folder, n=18, n_classes=4, shape=(3, 72, 72), split=split)
