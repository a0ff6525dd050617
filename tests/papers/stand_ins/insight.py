"""Tiny stand-ins: a CLIP of three blocks with patches of 16, and random images."""

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

from shared.zoo.recipes._clip import build_tokenizer
from tests.papers.hub import data_folder, tiny_image_dataset

WIDTH, SIDE = 16, 64


def build(hub: Path) -> None:
    folder = hub / "laion" / "CLIP-ViT-B-16-laion2B-s34B-b88K"
    tokenizer = build_tokenizer()
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    special |= {"pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer)}
    size = {"hidden_size": WIDTH, "intermediate_size": 32, "num_attention_heads": 2, "projection_dim": WIDTH}
    config = CLIPConfig(
        text_config=size | special | {"num_hidden_layers": 1, "max_position_embeddings": 40},
        vision_config=size | {"num_hidden_layers": 3, "image_size": SIDE, "patch_size": 16},
        projection_dim=WIDTH,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    content = {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")
    tiny_image_dataset(data_folder(hub, "ILSVRC/imagenet-1k"), n=24, n_classes=5)


PARAMETERS = {
    "n_seeds": 1, "truth_seeds": 1, "n_scenes": 60, "truth_steps": 30, "n_train": 24, "n_val": 6, "n_test": 30,
    "n_probe": 30, "d_sae": 512, "steps": 8, "batch": 128, "top": 2,
}  # fmt: skip
