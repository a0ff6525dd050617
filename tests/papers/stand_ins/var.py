"""Stand-ins for VAR's paper scale: a ResNet and a ViT of transformers on 224-pixel images of eight classes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

from tests.papers.hub import data_folder, tiny_image_dataset, tiny_vit

PARAMETERS = {
    "rows": 8,
    "n_grids": 1,
    "n_pilots": 1,
    "n_single": 1,
    "n_named": 2,
    "n_random": 1,
    "gradient_steps": 1,
}


def build(hub: Path) -> None:
    tiny_vit(hub / "google" / "vit-base-patch16-224")
    _tiny_resnet(hub / "microsoft" / "resnet-50")
    tiny_image_dataset(data_folder(hub, "ILSVRC/imagenet-1k"), n=8, n_classes=8, split="validation")


def _tiny_resnet(folder: Path) -> None:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=1000
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.ResNetForImageClassification(config).save_pretrained(folder)
    content = {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 224},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")
