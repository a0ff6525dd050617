"""Conditions of `shared.vision`'s functions."""

import torch

from tests.bad_input.good import rand
from tests.conditions.kinds import whole

VALUES_ = rand(2, 2, 3, 4)
MEANS = VALUES_.mean((1, 2), keepdim=True).expand(VALUES_.shape)

MODELS = {"head_features": lambda: {"model": whole(), "head": "head", "images": rand(2, 3, 4, 4)}}
SCALES = {
    "correlation_pool": {"values": 1, "guide": 0},
    "class_average": {"class_vectors": 0},
    "closed_form_map": {"head_weight": 1, "class_vectors": 0},
}
VALUES = {
    "correlation_pool": {"equal guide": (lambda: {"values": VALUES_, "guide": torch.ones(2, 2, 3, 5)}, MEANS)},
}
WITHOUT = {"encode_text": "a tokenizer's; tests/vision/test_clip.py"}
