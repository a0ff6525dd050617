"""Conditions of `shared.correction`'s functions."""

import torch

from tests.bad_input.good import rand
from tests.conditions.kinds import whole

X = rand(2, 3, 4, 4)


def penalised(model, x, mask):
    from shared.correction import rrr_loss

    x = x.detach().clone().requires_grad_()
    return rrr_loss(model(x), x, mask)


MODELS = {
    "predict": lambda: {"model": whole(), "x": X},
    "rrr_loss": lambda: {"model": whole(), "x": X, "mask": rand(2, 4, 4), "call": penalised},
}
KNOWN = {
    ("rrr_loss", "train"): "a loss, of training",
}
SCALES = {"artifact_relevance": {"relevance": 0}, "group_accuracy": {"logits": 0}}
NONE = torch.full((2,), torch.nan)
VALUES = {
    "artifact_relevance": {
        "all inside": (lambda: {"relevance": rand(2, 4, 4), "mask": rand(2, 4, 4) > -1}, torch.ones(2)),
        "nothing": (
            lambda: {"relevance": torch.zeros(1, 4, 4), "mask": rand(1, 4, 4) > 0.5},
            torch.full((1,), torch.nan),
        ),
    },
}
