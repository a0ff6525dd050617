"""Conditions of `shared.attribution`'s functions."""

import torch

from tests.bad_input.good import rand
from tests.conditions.kinds import whole

X, CLASSES = rand(2, 3, 4, 4), torch.tensor([1, 0])


def images() -> dict:
    return {"model": whole(), "x": X, "target": CLASSES}


def members(model, x, **options):
    """Two members, the second one the first doubled."""
    from torch import nn

    from shared.attribution import explain_members

    return explain_members([model, nn.Sequential(model, Doubled())], x, **options)


class Doubled(torch.nn.Module):
    def forward(self, x):
        return 2 * x


MODELS = {
    "class_gradients": lambda: {"model": whole(), "x": X, "classes": torch.tensor([[0, 1], [1, 2]])},
    "explain_members": lambda: {"model": whole(), "x": X, "method": "gi", "call": members},
    "grad_cam": lambda: {**images(), "layer": "first"},
    "deconvnet": images,
    "gradient": images,
    "guided_backprop": images,
    "input_x_gradient": images,
    "occlusion": lambda: {**images(), "window": (3, 1, 2)},
    "smooth_grad": lambda: {**images(), "samples": 2, "generator": torch.Generator().manual_seed(0)},
    "integrated_gradients": lambda: {**images(), "steps": 3},
}
SCALES = {
    "predictive_variance": {"outputs": 2},
    "shapley_values": {"x": 1},
}
VALUES = {
    "predictive_variance": {
        "one member": (lambda: {"outputs": rand(1, 2, 2)}, "member"),
        "equal members": (lambda: {"outputs": rand(1, 2, 2).expand(3, 2, 2)}, torch.zeros(2)),
    },
}
WITHOUT = {"gamma_except_last": "makes a composite", "raw_attention": "a language model's; test_attention.py"}
