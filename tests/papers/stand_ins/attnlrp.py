"""Stand-ins for AttnLRP's paper scale: a Llama with its tokenizer, a ViT on 224-pixel images, photos and texts."""

from __future__ import annotations

from pathlib import Path

from tests.papers.hub import data_folder, sentences, tiny_image_dataset, tiny_llama, tiny_text_dataset, tiny_vit

PARAMETERS = {"prompts_per_seed": 2, "images_per_seed": 3, "gradient_steps": 2, "removal_steps": 3, "seeds": 2}


def build(hub: Path) -> None:
    tiny_llama(hub / "meta-llama" / "Llama-2-7b-hf")
    tiny_vit(hub / "google" / "vit-base-patch16-224")
    tiny_image_dataset(data_folder(hub, "ILSVRC/imagenet-1k"), n=6, split="validation")
    tiny_text_dataset(data_folder(hub, "Salesforce/wikitext"), {"text": sentences(8)}, split="test")
