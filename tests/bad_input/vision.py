"""Arguments of `shared.vision`'s functions."""

import torch

from tests.bad_input.good import Calls, rand, rng


def tiny_clip() -> torch.nn.Module:
    """A `CLIPModel` of one narrow layer for images of 8 × 8."""
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text = tower | {"vocab_size": 8, "bos_token_id": 6, "eos_token_id": 7}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=tower | {"image_size": 8, "patch_size": 4})).eval()


def headed() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).eval()


GOOD: Calls = {
    "class_average": lambda: {"probabilities": rand(4, 3).softmax(1), "class_vectors": rand(3, 5)},
    "closed_form_map": lambda: {"head_weight": rand(3, 4), "class_vectors": rand(3, 5)},
    "cell_mask": lambda: {"cell": torch.tensor([0, 1]), "shape": (4, 4)},
    "correlation_pool": lambda: {"values": rand(2, 2, 3, 4), "guide": rand(2, 2, 3, 5)},
    "denormalise": lambda: {"inputs": rand(2, 3, 4, 4), "mean": [0.5] * 3, "std": [0.5] * 3},
    "encode_image": lambda: {"model": tiny_clip(), "images": rand(2, 3, 8, 8)},
    "head_features": lambda: {"model": headed(), "head": "1", "images": rand(2, 3, 2, 2)},
    "image_grid": lambda: {"images": rand(2, 4, 3, 4, 4)},
    "hidden_patches": lambda: {"model": tiny_clip(), "images": rand(2, 3, 8, 8)},
    "mixed_batches": lambda: {
        "masked": torch.arange(3),
        "unmasked": torch.arange(3, 9),
        "generator": torch.Generator().manual_seed(0),
    },
    "normalise": lambda: {"images": rand(2, 3, 4, 4), "mean": [0.5] * 3, "std": [0.5] * 3},
    "palette_classes": lambda: {"colours": rand(3, 4, 4)},
    "patch_features": lambda: {"model": tiny_clip(), "images": rand(2, 3, 8, 8)},
    "random_crops": lambda: {"image": rand(3, 8, 9), "n": 2, "side": 4, "generator": rng()},
    "resize": lambda: {"images": rand(2, 3, 4, 4), "size": 8},
}
