"""Arguments of `shared.lrp`'s functions."""

import torch

from tests.bad_input.good import Calls, net, rand

MAPS = rand(2, 3, 4, 4)
GOOD: Calls = {
    "attribute": lambda: {"model": net(), "x": rand(2, 3, 2, 2), "target": 1},
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
    "alti_logit": "token ids; tests/lrp/test_alti.py",
    "contrast": "class indices; tests/lrp/test_errors.py",
    "explain_members": "an ensemble's inputs; tests/lrp/test_second_order.py",
    "explain_uncertainty": "as explain_members",
    "explain_variance": "as explain_members",
    "weight_relevance": "batches, each through attribute; tests/lrp/test_latent.py",
    "zero_mean": "class indices; tests/lrp/test_errors.py",
}
ANY_RANK = {  # other axes are fine
    ("class_softmax", "maps"),
    ("shared_map", "maps"),
    ("var_map", "maps"),
    ("attribute", "x"),  # the model decides
    ("class_gradients", "x"),
    ("second_order", "explanations"),
}
