"""Arguments of `shared.metrics`' functions."""

import torch

from tests.bad_input.good import Calls, net, rand

MASK = rand(2, 12) > 0.5
TARGET = torch.tensor([0, 1])
CURVES = {"inputs": rand(2, 12), "relevance": rand(2, 12)}
CLASSES = {"predict": lambda x: x[:, :3], **CURVES, "target": TARGET, "removable": MASK}
LABELS = {"predicted": torch.tensor([[0, 1], [2, 3]]), "target": torch.tensor([[0, 4], [2, 3]])}
TRUTH = {"relevance": rand(2, 12), "truth": MASK, "among": torch.ones(2, 12, dtype=torch.bool)}
GOOD: Calls = {
    "area_between": lambda: {"lerf": rand(11, 2), "morf": rand(11, 2)},
    "average_precision": lambda: TRUTH,
    "cell_energy": lambda: {"attribution": rand(2, 4, 4)},
    "class_iou": lambda: {**LABELS, "n_classes": 5},
    "curve_area": lambda: {"curve": rand(11, 2)},
    "energy": lambda: {"logits": rand(2, 3)},
    "grid_pointing_game": lambda: {"attribution": rand(2, 4, 4), "cell": torch.tensor([0, 1])},
    "intersection_over_union": lambda: TRUTH,
    "mahalanobis": lambda: {
        **{"reference": rand(6, 2), "labels": torch.tensor([0, 1, 0, 1, 0, 1]), "features": rand(3, 2)}
    },
    "max_softmax": lambda: {"logits": rand(2, 3)},
    "miou": lambda: {**LABELS, "n_classes": 5},
    "neighbour_distance": lambda: {"reference": rand(6, 2), "features": rand(3, 2), "k": 2},
    "parameter_randomisation": lambda: {
        "explain": lambda model, x, target: x * model(x).gather(1, target[:, None]),
        "model": net(),
        "inputs": rand(2, 12),
        "target": TARGET,
    },
    "perturbation_curve": lambda: CLASSES,
    "perturbation_curves": lambda: CLASSES,
    "positive_share": lambda: TRUTH,
    "random_logit": lambda: {"explain": lambda x, target: x, "inputs": rand(2, 12), "target": TARGET, "n_classes": 3},
    "reciprocal_rank": lambda: TRUTH,
    "relevance_mass": lambda: TRUTH,
    "shuffled_relevance": lambda: {
        "relevance": rand(2, 12),
        "generator": torch.Generator().manual_seed(0),
        "among": MASK,
    },
    "top_k_hit": lambda: TRUTH,
}
ANY_RANK = {  # other axes are fine
    *(("shuffled_relevance", name) for name in ("relevance", "among")),
    ("curve_area", "curve"),
    *((name, "inputs") for name in ("parameter_randomisation", "random_logit")),  # explain's own
    *((name, side) for name in ("class_iou", "miou") for side in LABELS),  # of any one shape
}
FEWER = {("grid_pointing_game", "cell")}  # one cell for all
