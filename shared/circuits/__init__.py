"""Circuits: parts of a network that carry a behaviour, and what is certain about them.

>>> import torch
>>> scores = {"stage": torch.tensor([[3.0, 2, 0, 0], [3, 0, 2, 0], [3, 0, 0, 2]]).repeat(20, 1)}
>>> subsets = deletion_masks(1000, 60, 0.6, generator=torch.Generator().manual_seed(0))
>>> votes = {name: kept.sum(0) for name, kept in top_share(scores, subsets, 0.5).items()}
>>> certificate = certify(votes, 1000, p_delete=0.6, threshold=0.95)
>>> certificate.state["stage"].tolist(), certificate.radius  # the first unit is in; the others take turns
([1, -1, -1, -1], 1)
>>> layout = EdgeLayout(n_layers=12, n_heads=12)  # a ViT-B; one reader per attention, as in Vi-CD
>>> layout.n_edges, layout.circuit(["input->a0", "a0.h3->m11", "m11->logits"]).prune_dangling().n_edges
(2041, 3)
"""

from shared.circuits._certify import (
    Certificate,
    certified_radius,
    certify,
    deletion_masks,
    exact_votes,
    needed_votes,
    radius_threshold,
    smoothed_votes,
    top_share,
)
from shared.circuits._circuit_lens import FeatureParts, feature_parts
from shared.circuits._classes import ClassRelevance, class_relevance, input_contributions
from shared.circuits._edge_scores import edge_scores, faithfulness_curve
from shared.circuits._edge_steering import edge_directions, steered_logits
from shared.circuits._edges import Circuit, EdgeLayout, top_edges
from shared.circuits._groups import (
    ContributionGroups,
    contribution_groups,
    group_shares,
    permuted_shares,
    random_shares,
    top_contributions,
)
from shared.circuits._nodes import channel_scores, circuit_logits, only_channels, overlap
from shared.circuits._patched import EdgeGraph, patched_logits
from shared.circuits._prune_edges import prune_edges
from shared.circuits._rewire import Split, SplitLayer, rewired, source_sets, split_by_shares, split_by_sources
from shared.circuits._virtual import Purity, VirtualNeurons, distance_correlation, intra_inter, virtual_neurons
from shared.circuits._weight_lens import projection_outliers, reading_directions

__all__ = [
    "Certificate",
    "Circuit",
    "ClassRelevance",
    "ContributionGroups",
    "EdgeGraph",
    "EdgeLayout",
    "FeatureParts",
    "Purity",
    "Split",
    "SplitLayer",
    "VirtualNeurons",
    "certified_radius",
    "certify",
    "channel_scores",
    "circuit_logits",
    "class_relevance",
    "contribution_groups",
    "deletion_masks",
    "distance_correlation",
    "edge_directions",
    "edge_scores",
    "exact_votes",
    "faithfulness_curve",
    "feature_parts",
    "group_shares",
    "input_contributions",
    "intra_inter",
    "needed_votes",
    "only_channels",
    "overlap",
    "patched_logits",
    "permuted_shares",
    "projection_outliers",
    "prune_edges",
    "radius_threshold",
    "random_shares",
    "reading_directions",
    "rewired",
    "smoothed_votes",
    "source_sets",
    "split_by_shares",
    "split_by_sources",
    "steered_logits",
    "top_contributions",
    "top_edges",
    "top_share",
    "virtual_neurons",
]
