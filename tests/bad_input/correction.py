"""Arguments of `shared.correction`'s functions."""

import numpy as np
import torch
from torch import Tensor

from tests.bad_input.good import Calls, net, rand

H, Y = rand(20, 4), torch.arange(20) % 2
IMAGES, LAYER = rand(2, 3, 2, 2), "1"
MASK = {"x": IMAGES, "mask": rand(2, 2, 2)}


def penalised() -> dict[str, Tensor]:
    x = IMAGES.clone().requires_grad_()
    return {**MASK, "logits": net()(x), "x": x}


GOOD: Calls = {
    "artifact_relevance": lambda: {"relevance": rand(2, 4, 4), "mask": rand(2, 4, 4) > 0.5},
    "freeze_up_to": lambda: {"model": net(), "layer": LAYER, "x": IMAGES},
    "group_accuracy": lambda: {"logits": H, "y": Y, "groups": Y},
    "last_layer_refit": lambda: {
        **{"F": H, "y": Y, "groups": Y, "n_subsamples": 1},
        **{"generator": np.random.default_rng(0)},
    },
    "predict": lambda: {"model": net(), "x": IMAGES},
    "predict_from": lambda: {"head": lambda a: a, "activation": H},
    "prior_shift": lambda: {"bias": rand(3), "train_prior": torch.ones(3) / 3, "target_prior": torch.ones(3) / 3},
    "rrr_loss": penalised,
}
ANY_RANK = {("freeze_up_to", "x"), ("predict", "x"), ("predict_from", "activation")}  # the model or the head decides
