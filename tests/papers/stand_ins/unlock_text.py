"""Stand-ins for unlock_text's paper scale: a bottleneck ResNet, a sentence encoder, four of ImageNet's classes."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_bert, tiny_image_dataset, tiny_resnet

CLASSES = ["tench, Tinca tinca", "crane", "crane", "hen", "ship", "tray", "owl", "lion", "pug", "mask", "oboe", "yurt"]
PARAMETERS = {
    **{"n_images": 36, "n_unnamed": 6, "steps": 1, "n_passes": 1, "bank_sizes": [5, 20], "texts": "snippets"},
    **{"n_shapes": 240, "n_splits": 2, "epochs": 1, "temperatures": [1, 2], "ridges": [1, 10]},
    "kinds": {"a fish": "tench", "a bird": "hen"},
}


def build(hub: Path) -> None:
    tiny_resnet(
        hub / "microsoft" / "resnet-50",
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="bottleneck",
        num_labels=len(CLASSES),
        id2label=dict(enumerate(CLASSES)),
        label2id={},
    )
    tiny_bert(hub / "sentence-transformers" / "all-MiniLM-L12-v2", "BertModel")
    folder = data_folder(hub, "ILSVRC/imagenet-1k")
    tiny_image_dataset(folder, n=36, n_classes=4, shape=(3, 72, 72), split="validation")
