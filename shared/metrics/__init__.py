"""Scores for explanations: faithfulness (perturbation curves), localisation (against a known truth), sanity checks;
and for inputs: how far outside the training distribution they lie.

>>> import torch
>>> from shared.metrics import area_between, perturbation_curves
>>> weights, x = torch.tensor([3.0, -1.0, 2.0]), torch.ones(1, 3)
>>> lerf, morf = perturbation_curves(lambda z: z @ weights, x, relevance=x * weights, fractions=3)
>>> area_between(lerf, morf, fractions=3)
tensor([2.6667])
"""

from shared.metrics._faithfulness import ORDERS, area_between, curve_area, perturbation_curve, perturbation_curves
from shared.metrics._grid import cell_energy, grid_pointing_game
from shared.metrics._inpainting import KernelDensity
from shared.metrics._localisation import (
    average_precision,
    intersection_over_union,
    positive_share,
    reciprocal_rank,
    relevance_mass,
    top_k_hit,
)
from shared.metrics._nulls import shuffled_relevance
from shared.metrics._outliers import energy, mahalanobis, max_softmax, neighbour_distance
from shared.metrics._randomisation import (
    LAYER_ORDERS,
    parameter_randomisation,
    random_logit,
    randomised_models,
)
from shared.metrics._segmentation import class_iou, miou
from shared.metrics._spans import SpanScores, page_scores, plain_words, span_scores

__all__ = [
    "LAYER_ORDERS",
    "ORDERS",
    "KernelDensity",
    "SpanScores",
    "area_between",
    "average_precision",
    "cell_energy",
    "class_iou",
    "curve_area",
    "energy",
    "grid_pointing_game",
    "intersection_over_union",
    "mahalanobis",
    "max_softmax",
    "miou",
    "neighbour_distance",
    "page_scores",
    "parameter_randomisation",
    "perturbation_curve",
    "perturbation_curves",
    "plain_words",
    "positive_share",
    "random_logit",
    "randomised_models",
    "reciprocal_rank",
    "relevance_mass",
    "shuffled_relevance",
    "span_scores",
    "top_k_hit",
]
