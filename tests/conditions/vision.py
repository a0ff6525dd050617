"""Conditions of `shared.vision`'s functions."""

import torch

from tests.bad_input.good import rand

VALUES_ = rand(2, 2, 3, 4)
MEANS = VALUES_.mean((1, 2), keepdim=True).expand(VALUES_.shape)

SCALES = {"correlation_pool": {"values": 1, "guide": 0}}
VALUES = {
    "correlation_pool": {"equal guide": (lambda: {"values": VALUES_, "guide": torch.ones(2, 2, 3, 5)}, MEANS)},
}
WITHOUT = {"encode_text": "a tokenizer's; tests/vision/test_clip.py"}
