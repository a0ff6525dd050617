"""Conditions of `shared.influence`'s functions."""

import numpy as np
import torch

from tests.bad_input.good import rand

LDS = {"tau": rand(2, 4), "subsets": rand(5, 4) > 0.5}

SCALES = {
    "class_detection": {"tau": 0},
    "lds": {"tau": 0, "outputs": 0},
    "mislabelling_detection": {"self_influence": 0},
    "model_randomisation": {"tau": 0, "tau_random": 0},
    "shortcut_detection": {"tau": 0},
    "sparsity_curve": {"tau": 0},
    "topk_cardinality": {"tau": 0},
}
VALUES = {
    "mislabelling_detection": {
        "none marked": (lambda: {"self_influence": rand(4), "flipped": torch.zeros(4).bool()}, "flipped"),
    },
    "lds": {"equal outputs": (lambda: {**LDS, "outputs": torch.ones(5, 2)}, lambda s: np.isnan(s.score))},
}
