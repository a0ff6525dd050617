"""Conditions of `shared.federated`'s functions."""

import numpy as np
import torch

from tests.bad_input.good import rand

SCALES = {
    "iterated_radon_point": {"points": 1},
    "label_entropy": {"counts": 0},
    "radon_point": {"points": 1},
}
VALUES = {
    "radon_point": {
        "equal points": (lambda: {"points": torch.ones(5, 3)}, torch.ones(3)),
        "too few": (lambda: {"points": rand(3, 3)}, "points"),
    },
    "iterated_radon_point": {"equal points": (lambda: {"points": torch.ones(25, 3)}, torch.ones(3))},
    "label_entropy": {
        "no labels": (lambda: {"counts": np.zeros((2, 2))}, np.zeros(2)),
        "even": (lambda: {"counts": np.ones((1, 4))}, np.full(1, 2.0)),
    },
}
WITHOUT = {"simulate": "whole runs; tests/federated/test_simulate.py", "state_of": "copies a state dict"}
