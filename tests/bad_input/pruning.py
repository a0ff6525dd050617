"""Arguments of `shared.pruning`'s functions."""

import torch

from tests.bad_input.good import Calls, net, rand


def data() -> dict:
    return {"model": net(), "layers": ["1"], "x": rand(2, 3, 2, 2)}


def labelled() -> dict:
    return {**data(), "target": torch.tensor([0, 2])}


GOOD: Calls = {
    "activation_scores": data,
    "curve_area": lambda: {"rates": (0.0, 0.5), "values": rand(2).numpy()},
    "gradient_scores": labelled,
    "pruning_curve": lambda: {
        "model": net(),
        "scores": {"1": rand(5)},
        "x": rand(2, 3, 2, 2),
        "target": torch.tensor([0, 2]),
    },
    "relevance_scores": lambda: {**data(), "target": 1},
    "wanda_scores": data,
}
ELSEWHERE = {  # their tensors come in mappings; tests/pruning spoils them
    name: "a mapping of tensors; tests/pruning/test_masks.py"
    for name in ("keep_masks", "layer_shares", "masked", "prune_ranks", "shuffled_within", "unit_sums")
}
ANY_RANK = {(name, "x") for name in ("activation_scores", "gradient_scores", "relevance_scores", "wanda_scores")} | {
    ("pruning_curve", "x"),  # the model's
    ("pruning_curve", "target"),
}
