"""Arguments of `shared.pruning`'s functions."""

import torch

from shared.nets import Phoenix
from shared.pruning import start_scores
from tests.bad_input.good import Calls, net, rand


def data() -> dict:
    return {"model": net(), "layers": ["1"], "x": rand(2, 3, 2, 2)}


def labelled() -> dict:
    return {**data(), "target": torch.tensor([0, 2])}


def regulated() -> dict:
    model = Phoenix(4, 2, generator=torch.Generator().manual_seed(0))
    return {"model": model, "prior": torch.eye(4).roll(1, 0)}


def chain() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))


def stacked() -> dict:
    model = net()
    return {name: torch.stack([p.detach()] * 2) for name, p in model.named_parameters()}


def popup() -> dict:
    """All is kept, so that half precision finds the same ticket."""
    target, generator = torch.tensor([0, 1, 1, 0]), torch.Generator().manual_seed(0)
    return {"model": chain(), "x": rand(4, 3), "target": target, "keep": 1.0, "epochs": 1, "generator": generator}


TASKS = [[0, 2], [1, 3]]
GOOD: Calls = {
    "activation_scores": data,
    "construct_layer": lambda: {
        **{"weight": rand(2, 3), "bias": rand(2), "copies": 12},
        "generator": torch.Generator().manual_seed(0),
    },
    "circle_classes": lambda: {"x": rand(3, 2)},
    "curve_area": lambda: {"rates": (0.0, 0.5), "values": rand(2).numpy()},
    "dash_scores": lambda: {**regulated(), "scores": start_scores(regulated()["model"]), "together": rand(4, 4)},
    "edge_popup": popup,
    "forgetting": lambda: {"accuracy": rand(3, 3)},
    "gradient_scores": labelled,
    "grasp_scores": labelled,
    "helix_curve": lambda: {"x": rand(3, 1)},
    "interpolate_by_relu": lambda: {"knots": torch.arange(4.0), "values": rand(4)},
    "predict_in_task": lambda: {"logits": rand(3, 4), "tasks": TASKS, "chosen": torch.tensor([0, 1, 1])},
    "prior_loss": lambda: {**regulated(), "x": rand(3, 4)},
    "pruning_curve": lambda: {
        "model": net(),
        "scores": {"1": rand(5)},
        "x": rand(2, 3, 2, 2),
        "target": torch.tensor([0, 2]),
    },
    "pruning_rows": lambda: {
        "model": net(),
        "scores": {"1": rand(5)},
        "x": rand(2, 3, 2, 2),
        "target": torch.tensor([0, 2]),
    },
    "relevance_scores": lambda: {**data(), "target": 1},
    "sample_relevance": lambda: {**data(), "target": 1},
    "snip_scores": labelled,
    "subset_sum": lambda: {"values": rand(3, 6) - 0.5, "target": rand(3)},
    "synflow_scores": data,
    "stacked_outputs": lambda: {"model": net(), "state": stacked(), "x": rand(2, 3, 2, 2)},
    "task_of": lambda: {"tasks": TASKS, "target": torch.tensor([0, 3])},
    "unit_scores": labelled,
    "wanda_scores": data,
    "weight_scores": lambda: {**labelled(), "method": "snip"},
}
ELSEWHERE = {  # their tensors come in mappings; tests/pruning spoils them
    name: "a mapping of tensors; tests/pruning/test_masks.py"
    for name in ("keep_masks", "layer_shares", "masked", "prune_ranks", "shuffled_within", "unit_sums")
} | {name: "a mapping of tensors; tests/pruning/test_freeze.py" for name in ("freeze_rows", "subnetwork")}
ELSEWHERE |= {
    name: "a mapping of tensors; tests/pruning/test_prune_loop.py"
    for name in ("apply_masks", "iterative_prune", "train_masked", "weight_masks")
}
ELSEWHERE |= {
    name: "mappings of tensors; tests/pruning/test_circuits.py" for name in ("contrastive_scores", "without_top")
}
ELSEWHERE |= {"prune_by_relevance": "a mapping of tensors; tests/pruning/test_continual.py"}
SCORERS = (
    "activation_scores",
    "gradient_scores",
    "grasp_scores",
    "relevance_scores",
    "sample_relevance",
    "snip_scores",
    "synflow_scores",
    "unit_scores",
    "wanda_scores",
    "weight_scores",
)
ANY_RANK = {(name, "x") for name in SCORERS} | {
    ("edge_popup", "x"),  # the model's
    ("stacked_outputs", "x"),
    ("edge_popup", "target"),  # the loss's
    ("circle_classes", "x"),
    ("helix_curve", "x"),
    ("interpolate_by_relu", "values"),  # several functions
    ("pruning_curve", "x"),  # the model's
    ("pruning_curve", "target"),
    *(("dash_scores", name) for name in ("prior", "together")),  # the copies'
    *(("prior_loss", name) for name in ("prior", "x")),
    ("pruning_rows", "x"),
    ("pruning_rows", "target"),
}
