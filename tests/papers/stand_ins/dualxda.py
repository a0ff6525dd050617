"""Tiny stand-ins: a ResNet with the modules of the paper scale's, random images for its data."""

import json
from pathlib import Path

import torch
from transformers import ResNetConfig, ResNetForImageClassification

from tests.papers.hub import data_folder, tiny_image_dataset

PARAMETERS = {
    "n_seeds": 1,
    "n_train": 80,
    "n_test": 12,
    "epochs": 5,
    "batch": 16,
    "projection": 16,
    "lds_models": 3,
    "arnoldi_steps": 3,
    "full_points": 1,
    "n_crops": 3,
    "growth": [60, 120],
}


def build(hub: Path) -> None:
    folder = hub / "microsoft" / "resnet-18"
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=1000)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ResNetForImageClassification(config).save_pretrained(folder)
    content = {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"height": 64, "width": 64},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")
    for split, n in (("train", 120), ("test", 40)):
        tiny_image_dataset(data_folder(hub, "uoft-cs/cifar10"), n=n, n_classes=10, shape=(3, 32, 32), split=split)
