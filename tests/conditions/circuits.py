"""Conditions of `shared.circuits`' functions."""

import torch

from shared.circuits import (
    circuit_logits,
    class_relevance,
    input_contributions,
    only_channels,
    rewired,
    split_by_shares,
)
from tests.bad_input.good import rand
from tests.conditions.kinds import whole

X = rand(2, 3, 4, 4)
KEPT = torch.tensor([True, False, True, True])


def kept(model, layer, x):
    with only_channels(model, {layer: KEPT}):
        return model(x)


def split(model, layer, x):
    """Logits and sub-units of a model in other words."""
    with rewired(model, {layer: {2: split_by_shares(rand(2, 3).softmax(0))}}) as layers:
        return model(x), layers[layer].subunits(x.to(layers[layer].rows.weight))


def contributions(inputs):
    torch.manual_seed(0)
    return input_contributions(torch.nn.Conv2d(3, 2, 2).to(inputs.dtype), inputs, units=[1])


def by_class(model, layer, x):
    found = class_relevance(model, layer, [(x, torch.tensor([2, 0]))], n_classes=3, threshold=0.1)
    return found.counts, found.vectors(1)[[0, 2]]


MODELS = {
    "class_relevance": lambda: {"model": whole(), "layer": "first", "x": X, "call": by_class},
    "channel_scores": lambda: {"model": whole(), "layers": "first", "x": X, "target": 1},
    "circuit_logits": lambda: {
        **{"model": whole(), "layer": "first", "x": X},
        "call": lambda model, layer, x: circuit_logits(model, {layer: KEPT[None]}, x),
    },
    "only_channels": lambda: {"model": whole(), "layer": "first", "x": X, "call": kept},
    "rewired": lambda: {"model": whole(), "layer": "first", "x": X, "call": split},
}
CALLS = {"input_contributions": lambda: {"inputs": X, "call": contributions}}
SCALES = {"input_contributions": {"inputs": 1}, "source_sets": {"contributions": 0}}
KNOWN = dict.fromkeys(
    [("only_channels", "train"), ("rewired", "train")], "one may edit a model while it trains; dropout draws anew"
)
