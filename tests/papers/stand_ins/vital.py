"""Stand-ins for VITAL's paper scale: a bottleneck ResNet, a ConvNeXt and a ViT, and photographs of two classes."""

from pathlib import Path

import transformers

from tests.papers.hub import _image_processor, _save, data_folder, tiny_image_dataset, tiny_resnet, tiny_vit

PARAMETERS = {
    **{"n_classes": 2, "n_refs": 10, "steps": 2, "inner_steps": 2, "n_channels": 2, "n_pool": 20},
    **{"rows": 48, "test_rows": 24},
}


def build(hub: Path) -> None:
    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 1000}
    tiny_resnet(hub / "microsoft" / "resnet-50", embedding_size=8, layer_type="bottleneck", **sizes)
    convnext = hub / "facebook" / "convnext-base-224"
    _save(transformers.ConvNextForImageClassification, transformers.ConvNextConfig(**sizes), convnext)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    _image_processor(convnext, "ConvNextImageProcessor", "size", 64, mean, std)
    tiny_vit(hub / "google" / "vit-large-patch16-224", image_size=64)
    folder = data_folder(hub, "ILSVRC/imagenet-1k")
    for split, rows in (("train", 48), ("validation", 24)):
        tiny_image_dataset(folder, n=rows, n_classes=2, shape=(3, 72, 72), split=split)
