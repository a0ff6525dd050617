"""Arguments of `shared.circuits`' functions."""

import torch
from torch import nn

from tests.bad_input.good import Calls, net, rand


def distances(seed: int) -> torch.Tensor:
    points = torch.rand(6, 3, generator=torch.Generator().manual_seed(seed))
    return torch.cdist(points, points)


def conv() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 2, 2)


GOOD: Calls = {
    "distance_correlation": lambda: {"first": distances(0), "second": distances(1)},
    "intra_inter": lambda: {"distances": distances(0), "labels": torch.arange(6) % 2},
    "virtual_neurons": lambda: {"vectors": rand(6, 3)},
    "channel_scores": lambda: {"model": net(), "layers": ["1"], "x": rand(2, 3, 2, 2), "target": 1},
    "contribution_groups": lambda: {"contributions": rand(9, 5)},
    "group_shares": lambda: {"means": rand(2, 5)},
    "permuted_shares": lambda: {"shares": rand(2, 5).softmax(0), "strength": rand(5), "generator": torch.Generator()},
    "random_shares": lambda: {"strength": rand(5), "k": 2, "generator": torch.Generator()},
    "input_contributions": lambda: {"layer": conv(), "inputs": rand(2, 3, 4, 4), "units": [1]},
    "source_sets": lambda: {"contributions": rand(2, 6)},
    "split_by_shares": lambda: {"shares": rand(3, 5).softmax(0)},
    "split_by_sources": lambda: {"sources": torch.eye(2, 5, dtype=torch.bool)},
    "top_contributions": lambda: {"weight": rand(5), "activations": rand(3, 4, 5)},
}
ELSEWHERE = {
    **dict.fromkeys(
        ("certify", "exact_votes", "smoothed_votes", "top_share"),
        "whole numbers, truth values and mappings; tests/circuits/test_certify.py",
    ),
    "class_relevance": "batches of images and classes; tests/circuits/test_classes.py",
    **dict.fromkeys(
        ("circuit_logits", "only_channels", "overlap"), "mappings of truth values; tests/circuits/test_nodes.py"
    ),
}
ANY_RANK = {("channel_scores", "x")}
