"""Arguments of `shared.metrics`' functions."""

import torch

from tests.bad_input.good import Calls, rand, sums

MASK = rand(2, 12) > 0.5
CURVES = {"inputs": rand(2, 12), "relevance": rand(2, 12)}
LABELS = {"predicted": torch.tensor([[0, 1], [2, 3]]), "target": torch.tensor([[0, 4], [2, 3]])}
GOOD: Calls = {
    "area_between": lambda: {"lerf": rand(11, 2), "morf": rand(11, 2)},
    "average_precision": lambda: {"relevance": rand(2, 12), "truth": MASK},
    "cell_energy": lambda: {"attribution": rand(2, 4, 4)},
    "class_iou": lambda: {**LABELS, "n_classes": 5},
    "curve_area": lambda: {"curve": rand(11, 2)},
    "grid_pointing_game": lambda: {"attribution": rand(2, 4, 4), "cell": torch.tensor([0, 1])},
    "intersection_over_union": lambda: {"relevance": rand(2, 12), "truth": MASK},
    "miou": lambda: {**LABELS, "n_classes": 5},
    "perturbation_curve": lambda: {"predict": sums, **CURVES},
    "perturbation_curves": lambda: {"predict": sums, **CURVES},
    "positive_share": lambda: {"relevance": rand(2, 12), "truth": MASK},
    "rank_correlation": lambda: {"first": rand(2, 12), "second": rand(2, 12).flip(1)},
    "reciprocal_rank": lambda: {"relevance": rand(2, 12), "truth": MASK},
    "relevance_mass": lambda: {"relevance": rand(2, 12), "truth": MASK},
    "top_k_hit": lambda: {"relevance": rand(2, 12), "truth": MASK},
}
ELSEWHERE = {  # take what a model or another call makes; their rooms' tests spoil it
    "parameter_randomisation": "a model; tests/metrics/test_randomisation.py",
    "random_logit": "class indices; tests/metrics/test_randomisation.py",
}
ANY_RANK = {  # other axes are fine
    ("rank_correlation", "first"),
    ("rank_correlation", "second"),
    ("curve_area", "curve"),
    *((name, side) for name in ("class_iou", "miou") for side in LABELS),  # of any one shape
}
FEWER = {("grid_pointing_game", "cell")}  # one cell for all
