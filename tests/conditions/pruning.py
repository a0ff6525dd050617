"""Conditions of `shared.pruning`'s functions."""

import torch

from tests.bad_input.good import rand
from tests.conditions.kinds import whole

X, TARGET = rand(2, 3, 4, 4), torch.tensor([1, 0])


def scored() -> dict:
    return {"model": whole(), "layers": "first", "x": X}


def pruned() -> dict:
    """The curve of a loss, so that it tells small differences."""
    loss = torch.nn.CrossEntropyLoss(reduction="none")
    scores = {"first": torch.arange(4.0)}
    return {"model": whole(), "scores": scores, "x": X, "target": TARGET, "rates": (0.0, 0.5), "metric": loss}


MODELS = {
    "activation_scores": scored,
    "gradient_scores": lambda: {**scored(), "target": TARGET, "steps": 2},
    "grasp_scores": lambda: {**scored(), "target": TARGET, "temperature": 1.0},
    "pruning_curve": pruned,
    "pruning_rows": pruned,
    "relevance_scores": lambda: {**scored(), "target": TARGET},
    "snip_scores": lambda: {**scored(), "target": TARGET},
    "synflow_scores": scored,
    "wanda_scores": scored,
    "weight_scores": lambda: {**scored(), "target": TARGET, "method": "snip"},
}
NAMED = "names of layers come as keys of scores, which the condition doesn't rename"
KNOWN = {
    **{
        (name, condition): NAMED
        for name in ("pruning_curve", "pruning_rows")
        for condition in ("wrapped", "wrapped by hand", "compiled")
    },
    (
        "dash_scores",
        "bfloat16",
    ): "solves with the scores' Gram matrix, whose small eigenvalues scores of eight bits change",
}
WITHOUT = {
    "plant_ticket": "looks at weights only; tests/pruning/test_plant.py",
    **dict.fromkeys(("find_units", "unit_count", "weight_layers"), "look at modules only"),
    **dict.fromkeys(("he_bias_", "looks_linear_", "rescale_"), "write a model's weights, by design"),
    **dict.fromkeys(("magnitude_scores", "random_scores", "random_weight_scores"), "look at weights only"),
}
