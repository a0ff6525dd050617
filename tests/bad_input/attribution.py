"""Arguments of `shared.attribution`'s functions."""

import torch

from tests.bad_input.good import Calls, net, rand

MAPS = rand(2, 3, 4, 4)
GOOD: Calls = {
    "choose_classes": lambda: {"logits": rand(2, 4)},
    "class_gradients": lambda: {"model": net(), "x": rand(2, 3, 2, 2), "classes": torch.tensor([[0, 1], [1, 2]])},
    "class_softmax": lambda: {"maps": MAPS},
    "predictive_variance": lambda: {"outputs": rand(3, 2, 2)},
    "rollout": lambda: {"attention": rand(2, 2, 3, 4, 4).softmax(-1)},
    "second_order": lambda: {"explanations": rand(3, 2, 2, 5), "outputs": rand(3, 2, 2)},
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
    ("class_gradients", "x"),  # the model decides
    ("second_order", "explanations"),
}
