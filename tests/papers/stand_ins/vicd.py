"""Stand-ins for vicd's paper scale: a ViT and an OpenCLIP of two blocks, and four of ImageNet's classes."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset, tiny_open_clip, tiny_vit

PARAMETERS = {
    "n_classes": 2,
    "n_pairs": 2,
    "taus": [0.01, 0.02, 0.3],  # of the middle one edges must be left
    "shares": [0.1, 0.5],
    "metric": "kl",  # a random network's logits need not fall
    "ig_steps": 2,
    "ig_steps_more": 3,
    "words": ["star", "square"],
    "n_scenes": 3,
    "alphas": [0.5, 1.0],
}


def build(hub: Path) -> None:
    """Write the tiny models and images under their hub ids."""
    tiny_vit(hub / "google" / "vit-base-patch16-224", patch_size=32)
    tiny_open_clip(hub / "laion" / "CLIP-ViT-B-32-laion2B-s34B-b79K", layers=2, patch=16)
    tiny_image_dataset(data_folder(hub, "ILSVRC/imagenet-1k"), n=24, n_classes=4, split="validation")
