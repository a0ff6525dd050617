"""Tiny stand-ins: a CLIP of three blocks with patches of 16, and random images."""

from pathlib import Path

from tests.papers.hub import data_folder, tiny_image_dataset, tiny_open_clip


def build(hub: Path) -> None:
    tiny_open_clip(hub / "laion" / "CLIP-ViT-B-16-laion2B-s34B-b88K", layers=3, patch=16)
    tiny_image_dataset(data_folder(hub, "ILSVRC/imagenet-1k"), n=24, n_classes=5)


PARAMETERS = {
    "n_hierarchies": 2, "n_scenes": 60, "truth_steps": 20, "n_train": 24, "n_val": 4, "n_draws": 2, "n_test": 24,
    "n_probe": 30, "d_sae": 512, "steps": 6, "batch": 128, "top": 2,
}  # fmt: skip
