"""Conditions of `shared.metrics`' functions."""

import torch

from tests.bad_input.good import rand
from tests.conditions.kinds import whole

X, CLASSES = rand(2, 3, 4, 4), torch.tensor([1, 0])


def explain(model, x, target):
    return x * model(x).gather(1, target[:, None])[:, :, None, None]


MODELS = {
    "parameter_randomisation": lambda: {"model": whole(), "inputs": X, "target": CLASSES, "explain": explain},
}
KNOWN = {
    **{("parameter_randomisation", c): "more, or fewer, modules to draw" for c in ("parametrised", "twice")},
}
SCALES = {
    "average_precision": {"relevance": 0},
    "cell_energy": {"attribution": 1},
    "grid_pointing_game": {"attribution": 0},
    "intersection_over_union": {"relevance": 0},
    "perturbation_curve": {"relevance": 0},
    "perturbation_curves": {"relevance": 0},
    "positive_share": {"relevance": 0},
    "reciprocal_rank": {"relevance": 0},
    "relevance_mass": {"relevance": 0},
    "shuffled_relevance": {"relevance": 1},
    "top_k_hit": {"relevance": 0},
    "curve_area": {"curve": 1},
    "area_between": {("lerf", "morf"): 1},
}
TRUTH, NOTHING = torch.arange(12).expand(2, 12) == 0, torch.zeros(2, 12)


def flat(want):
    """Equal relevance everywhere (the value chance would give), and rows that have no true feature."""
    return {
        "equal": (lambda: {"relevance": NOTHING, "truth": TRUTH}, torch.full((2,), want)),
        "no truth": (lambda: {"relevance": rand(2, 12), "truth": TRUTH & False}, "truth"),
    }


VALUES = {
    "average_precision": flat(1 / 12),
    "reciprocal_rank": flat(1 / 6.5),
    "relevance_mass": flat(0.0),
    "positive_share": flat(0.0),
    "top_k_hit": {
        **flat(1 / 12),
        "three drawn": (lambda: {"relevance": NOTHING, "truth": TRUTH, "k": 3}, torch.full((2,), 0.25)),
    },
    "grid_pointing_game": {
        "equal": (lambda: {"attribution": torch.zeros(2, 4, 4), "cell": torch.tensor([0, 1])}, torch.full((2,), 0.25)),
    },
    "cell_energy": {"nothing": (lambda: {"attribution": torch.zeros(2, 4, 4)}, torch.zeros(2, 4))},
}
WITHOUT = {"randomised_models": "draws models; its row is parameter_randomisation's"}
