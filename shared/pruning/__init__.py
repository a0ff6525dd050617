"""Pruning by scores: what units and weights are worth, the model without the least of them, and what that costs.

>>> import torch
>>> from torch import nn
>>> _ = torch.manual_seed(0)
>>> cnn = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()
>>> x, y = torch.rand(6, 1, 4, 4), torch.arange(6) % 3
>>> scores = relevance_scores(cnn, find_units(cnn, "filter"), x, y)
>>> scores["0"].shape, keep_masks(scores, 0.5)["0"].sum().item()
(torch.Size([4]), 2)
>>> before = cnn(x)
>>> with masked(cnn, keep_masks(scores, 1.0)):
...     pruned = cnn(x)
>>> bool((pruned == before).all()), bool((cnn(x) == before).all())
(False, True)
>>> rates = (0.0, 0.25, 0.5, 0.75)
>>> curve = pruning_curve(cnn, scores, x, y, rates=rates)
>>> curve.shape, 0 <= curve_area(rates, curve) <= 1
((4,), True)
"""

from shared.pruning._circuits import contrastive_scores, without_top
from shared.pruning._continual import (
    Pruned,
    forgetting,
    predict_in_task,
    prune_by_relevance,
    sample_relevance,
    task_of,
)
from shared.pruning._continual_chain import TaskChain
from shared.pruning._curves import RATES, curve_area, pruning_curve, pruning_rows
from shared.pruning._dash import DashPruner, dash_scores, prior_loss, prior_matrix, start_scores
from shared.pruning._edge_popup import Tickets, anneal, edge_popup, stacked_outputs
from shared.pruning._freeze import freeze_rows, subnetwork
from shared.pruning._init import he_bias_, looks_linear_, rescale_
from shared.pruning._masks import keep_masks, masked, prune_ranks, shuffled_within
from shared.pruning._methods import unit_scores
from shared.pruning._plant import Planted, plant_ticket
from shared.pruning._prune_loop import apply_masks, iterative_prune, sparsity_schedule, train_masked, weight_masks
from shared.pruning._pruners import (
    grasp_scores,
    random_weight_scores,
    snip_scores,
    synflow_scores,
    weight_layers,
    weight_scores,
)
from shared.pruning._scores import activation_scores, gradient_scores, layer_shares, random_scores, relevance_scores
from shared.pruning._search import search_choices
from shared.pruning._subset_sum import Construction, construct_layer, subset_sum
from shared.pruning._tickets import analytic_ticket, circle_classes, helix_curve, interpolate_by_relu
from shared.pruning._units import find_units, unit_count
from shared.pruning._weights import magnitude_scores, unit_sums, wanda_scores

__all__ = [
    "RATES",
    "Construction",
    "DashPruner",
    "Planted",
    "Pruned",
    "TaskChain",
    "Tickets",
    "activation_scores",
    "analytic_ticket",
    "anneal",
    "apply_masks",
    "circle_classes",
    "construct_layer",
    "contrastive_scores",
    "curve_area",
    "dash_scores",
    "edge_popup",
    "find_units",
    "forgetting",
    "freeze_rows",
    "gradient_scores",
    "grasp_scores",
    "he_bias_",
    "helix_curve",
    "interpolate_by_relu",
    "iterative_prune",
    "keep_masks",
    "layer_shares",
    "looks_linear_",
    "magnitude_scores",
    "masked",
    "plant_ticket",
    "predict_in_task",
    "prior_loss",
    "prior_matrix",
    "prune_by_relevance",
    "prune_ranks",
    "pruning_curve",
    "pruning_rows",
    "random_scores",
    "random_weight_scores",
    "relevance_scores",
    "rescale_",
    "sample_relevance",
    "search_choices",
    "shuffled_within",
    "snip_scores",
    "sparsity_schedule",
    "stacked_outputs",
    "start_scores",
    "subnetwork",
    "subset_sum",
    "synflow_scores",
    "task_of",
    "train_masked",
    "unit_count",
    "unit_scores",
    "unit_sums",
    "wanda_scores",
    "weight_layers",
    "weight_masks",
    "weight_scores",
    "without_top",
]
