"""Arguments of `shared.federated`'s functions."""

import numpy as np
import torch
from torch import nn

from shared import federated
from tests.bad_input.good import Calls, rand, rng

LABELS, COUNTS = np.arange(40) % 4, np.array([[1.0, 2.0], [0.0, 3.0]])

GOOD: Calls = {
    "evaluate_states": lambda: {
        **{"model": nn.Linear(4, 3), "metric": federated.accuracy},
        **{"inputs": rand(9, 4), "targets": torch.arange(9) % 3},
    },
    "iterated_radon_point": lambda: {"points": rand(25, 3)},
    "label_counts": lambda: {"labels": LABELS, "parts": [np.array([0]), np.array([1, 2])]},
    "label_entropy": lambda: {"counts": COUNTS},
    "laplace_counts": lambda: {"counts": COUNTS, "epsilon": 1.0, "generator": rng()},
    "partition_classes": lambda: {"labels": LABELS, "clients": 4, "per_client": 2, "generator": rng()},
    "partition_dirichlet": lambda: {"labels": LABELS, "clients": 4, "alpha": 1.0, "generator": rng()},
    "radon_point": lambda: {"points": rand(5, 3)},
    "unflatten": lambda: {"vector": rand(15), "like": federated.state_of(nn.Linear(4, 3))},
}
ELSEWHERE = {
    "accuracy": "scores what a model put out, a diverged one's NaN too; evaluate_states checks the data",
    "check_state": "is itself the check, of dictionaries; tests/federated/test_aggregate.py",
    "cross_entropy": "the loss inside vmap, where values can't be looked at; Clients checks the data",
    "stack_states": "dictionaries, by check_state; tests/federated/test_aggregate.py",
    "take_states": "rows of a stack, none too; torch names an index out of range",
}
ANY_RANK = {("label_entropy", "counts"), ("radon_point", "points"), ("evaluate_states", "inputs")}
ANY_RANK |= {("evaluate_states", "targets")}  # as the metric takes them
