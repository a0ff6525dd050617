"""Conditions of `shared.correction`'s functions."""

import torch

from shared.correction import RandomErasing
from tests.bad_input.good import net, rand
from tests.conditions.kinds import whole

X, CLASSES = rand(2, 3, 4, 4), torch.tensor([1, 0])


def penalised(model, x, mask):
    from shared.correction import rrr_loss

    x = x.detach().clone().requires_grad_()
    return rrr_loss(model(x), x, mask)


CALLS = {
    "occlude": lambda: {
        **{"model": net(), "x": X[..., :2, :2], "y": CLASSES, "dropout": RandomErasing()},
        "generator": torch.Generator().manual_seed(0),
    },
}
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
