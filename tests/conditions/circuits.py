"""Conditions of `shared.circuits`' functions."""

import torch

from shared.circuits import circuit_logits, only_channels
from tests.bad_input.good import rand
from tests.conditions.kinds import whole

X = rand(2, 3, 4, 4)
KEPT = torch.tensor([True, False, True, True])


def kept(model, layer, x):
    with only_channels(model, {layer: KEPT}):
        return model(x)


MODELS = {
    "channel_scores": lambda: {"model": whole(), "layers": "first", "x": X, "target": 1},
    "circuit_logits": lambda: {
        **{"model": whole(), "layer": "first", "x": X},
        "call": lambda model, layer, x: circuit_logits(model, {layer: KEPT[None]}, x),
    },
    "only_channels": lambda: {"model": whole(), "layer": "first", "x": X, "call": kept},
}
KNOWN = {("only_channels", "train"): "one may edit a model while it trains"}
