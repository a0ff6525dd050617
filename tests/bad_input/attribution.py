"""Arguments of `shared.attribution`'s functions."""

import torch
from torch import nn

from tests.bad_input.good import Calls, net, rand, sums

MAPS = rand(2, 3, 4, 4)


def maps_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()


def images() -> dict:
    return {"model": net(), "x": rand(2, 3, 2, 2), "target": 1}


GOOD: Calls = {
    "choose_classes": lambda: {"logits": rand(2, 4)},
    "class_gradients": lambda: {"model": net(), "x": rand(2, 3, 2, 2), "classes": torch.tensor([[0, 1], [1, 2]])},
    "class_softmax": lambda: {"maps": MAPS},
    "grad_cam": lambda: {"model": maps_net(), "layer": "0", "x": rand(2, 3, 4, 4), "target": 1},
    "predictive_variance": lambda: {"outputs": rand(3, 2, 2)},
    "deconvnet": images,
    "gradient": images,
    "guided_backprop": images,
    "input_x_gradient": images,
    "occlusion": lambda: {**images(), "window": (3, 1, 1)},
    "smooth_grad": lambda: {**images(), "samples": 2},
    "integrated_gradients": lambda: {**images(), "steps": 2, "baseline": rand(3, 2, 2)},
    "rollout": lambda: {"attention": rand(2, 2, 3, 4, 4).softmax(-1)},
    "second_order": lambda: {"explanations": rand(3, 2, 2, 5), "outputs": rand(3, 2, 2)},
    "shapley_values": lambda: {"function": sums, "x": rand(2, 4), "permutations": 2},
    "shared_map": lambda: {"maps": MAPS, "first": 0, "second": 1},
    "var_map": lambda: {"maps": MAPS, "target": 0},
}
ELSEWHERE = {  # take what a model or another call makes; their rooms' tests spoil it
    "alti_logit": "token ids; tests/attribution/test_alti.py",
    "explain_members": "an ensemble's inputs; tests/attribution/test_second_order.py",
    "explain_uncertainty": "as explain_members",
    "explain_variance": "as explain_members",
}
ANY_RANK = {  # other axes are fine
    ("class_softmax", "maps"),
    ("shared_map", "maps"),
    ("var_map", "maps"),
    *(
        (name, "x") for name in ("class_gradients", "deconvnet", "gradient", "guided_backprop", "input_x_gradient")
    ),  # the model's
    ("smooth_grad", "x"),
    *(("integrated_gradients", name) for name in ("x", "baseline")),
    ("shapley_values", "x"),
    ("second_order", "explanations"),
}
