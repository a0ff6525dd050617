"""Arguments of `shared.correction`'s functions."""

import numpy as np
import torch
from torch import Tensor

from shared.correction import RandomErasing
from tests.bad_input.good import Calls, net, rand

H, Y = rand(20, 4), torch.arange(20) % 2
IMAGES, LAYER = rand(2, 3, 2, 2), "1"
MASK = {"x": IMAGES, "mask": rand(2, 2, 2)}


def penalised() -> dict[str, Tensor]:
    x = IMAGES.clone().requires_grad_()
    return {**MASK, "logits": net()(x), "x": x}


Y2 = torch.tensor([0, 1])
GOOD: Calls = {
    "fit_with_dropout": lambda: {"model": net(), "x": IMAGES, "y": Y2, "epochs": 1},
    "artifact_relevance": lambda: {"relevance": rand(2, 4, 4), "mask": rand(2, 4, 4) > 0.5},
    "freeze_up_to": lambda: {"model": net(), "layer": LAYER, "x": IMAGES},
    "group_accuracy": lambda: {"logits": H, "y": Y, "groups": Y},
    "last_layer_refit": lambda: {
        **{"F": H, "y": Y, "groups": Y, "n_subsamples": 1},
        **{"generator": np.random.default_rng(0)},
    },
    "occlude": lambda: {"model": net(), "x": IMAGES, "y": Y2, "dropout": RandomErasing()},
    "predict": lambda: {"model": net(), "x": IMAGES},
    "predict_from": lambda: {"head": lambda a: a, "activation": H},
    "prior_shift": lambda: {"bias": rand(3), "train_prior": torch.ones(3) / 3, "target_prior": torch.ones(3) / 3},
    "rrr_loss": penalised,
    "training_relevance": lambda: {"model": net(), "x": IMAGES, "y": Y2},
}
BY_MODEL = ("fit_with_dropout", "freeze_up_to", "occlude", "predict", "training_relevance")
ANY_RANK = {
    ("predict_from", "activation"),
    *((function, "x") for function in BY_MODEL),
}  # the model or the head decides
