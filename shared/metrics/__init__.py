"""Scores for explanations: faithfulness (perturbation curves) and localisation (relevance against a known truth)."""

from shared.metrics._faithfulness import ORDERS, area_between, curve_area, perturbation_curve, perturbation_curves
from shared.metrics._grid import cell_energy, grid_pointing_game
from shared.metrics._inpainting import KernelDensity
from shared.metrics._localisation import intersection_over_union, reciprocal_rank, relevance_mass, top_k_hit

__all__ = [
    "ORDERS",
    "KernelDensity",
    "area_between",
    "cell_energy",
    "curve_area",
    "grid_pointing_game",
    "intersection_over_union",
    "perturbation_curve",
    "perturbation_curves",
    "reciprocal_rank",
    "relevance_mass",
    "top_k_hit",
]
