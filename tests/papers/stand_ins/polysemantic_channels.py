"""Stand-ins for polysemantic_channels' paper scale: a bottleneck ResNet, twelve ImageNet classes in both splits."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset, tiny_resnet

# an untrained network has no channel that serves two classes at the paper's thresholds
PARAMETERS = {
    **{"n_fit": 4, "n_judge": 2, "n_pilot": 2, "threshold": 0.0, "share": 0.3, "gamma": 1.1, "max_pairs": 3},
    **{"n_constructed": 4, "ratio_steps": 3, "fv_steps": 2},
}


def build(hub: Path) -> None:
    tiny_resnet(
        hub / "microsoft" / "resnet-50",
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 3],
        layer_type="bottleneck",
        num_labels=1000,
    )
    folder = data_folder(hub, "ILSVRC/imagenet-1k")
    for split in ("train", "validation"):
        tiny_image_dataset(folder, n=48, n_classes=12, shape=(3, 72, 72), split=split)
