"""Conditions of `shared.lrp`'s functions."""

import torch

from shared.lrp import Composite, reference_banks, weight_relevance
from tests.bad_input.good import rand
from tests.conditions.kinds import whole

X, CLASSES = rand(2, 3, 4, 4), torch.tensor([1, 0])


def batches(model, names, x):
    return weight_relevance(model, names, [x], 1, composite=Composite([]))


def banks(model, layers, x, target):
    return reference_banks(model, layers, x, target, k=1)[layers].values


MODELS = {
    "attribute": lambda: {"model": whole(), "x": X, "target": CLASSES, "record": "first"},
    "conservation_report": lambda: {"model": whole(), "x": X, "target": CLASSES},
    "reference_banks": lambda: {"model": whole(), "layers": "first", "x": X, "target": CLASSES, "call": banks},
    "weight_relevance": lambda: {"model": whole(), "names": "first.weight", "x": X, "call": batches},
}
WITHOUT = {
    **dict.fromkeys(("attention_relevance", "head_relevance"), "language models; tests/lrp/test_heads.py"),
    "default_composite": "makes a composite",
}
