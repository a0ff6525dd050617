"""Tiny stand-ins: a CLIP with as many blocks as ViT-B/32, random dictionaries in Prisma's files, random images."""

import json
from pathlib import Path

import torch

from tests.papers.hub import data_folder, tiny_image_dataset, tiny_open_clip

WIDTH = 16
DICTIONARY = "sparse-autoencoder-clip-b-32-sae-vanilla-x64-layer-{}-hook_resid_post-l1-1e-05"
LAYERS = (1, 6, 8)


def build(hub: Path) -> None:
    tiny_open_clip(hub / "laion" / "CLIP-ViT-B-32-DataComp.XL-s13B-b90K", layers=12, patch=32, width=WIDTH)
    for layer in LAYERS:
        tiny_prisma(hub / "Prisma-Multimodal" / DICTIONARY.format(layer), layer)
    tiny_image_dataset(data_folder(hub, "ILSVRC/imagenet-1k"), n=20, n_classes=5, split="validation")


def tiny_prisma(folder: Path, layer: int, expansion: int = 4) -> None:
    """A ReLU dictionary with run-time layer norm, as ViT-Prisma writes one."""
    generator = torch.Generator().manual_seed(layer)
    rows = torch.nn.functional.normalize(torch.randn(WIDTH * expansion, WIDTH, generator=generator), dim=1)
    folder.mkdir(parents=True)
    weights = {
        "W_enc": rows.T.contiguous(),
        "b_enc": torch.zeros(len(rows)),
        "W_dec": rows,
        "b_dec": torch.zeros(WIDTH),
    }
    torch.save(weights, folder / "n_images_8.pt")
    content = {"architecture": "standard", "activation_fn_str": "relu", "d_in": WIDTH, "expansion_factor": expansion}
    (folder / "config.json").write_text(json.dumps(content | {"normalize_activations": "layer_norm"}), encoding="utf-8")


PARAMETERS = {
    "n_seeds": 2, "layers": list(LAYERS), "steered_layers": [6], "n_profile": 6, "n_base": 2, "n_features": 6,
    "n_null": 8, "multiples": [1, 2], "n_distractors": 70, "n_pilots": 2, "n_rank": 8, "n_val": 4, "n_test": 4,
    "budgets": [1, 2], "ranks": [1],
}  # fmt: skip
