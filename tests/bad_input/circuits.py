"""Arguments of `shared.circuits`' functions."""

import torch
from torch import nn

from shared.circuits import EdgeGraph, EdgeLayout
from tests.bad_input.good import Calls, net, rand


def distances(seed: int) -> torch.Tensor:
    points = torch.rand(6, 3, generator=torch.Generator().manual_seed(seed))
    return torch.cdist(points, points)


def conv() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 2, 2)


def pairs() -> dict:
    """A tiny vision transformer, and images with their counterfactuals."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = ViTConfig(**sizes, image_size=4, patch_size=2, num_channels=3, num_labels=3, initializer_range=0.5)
    graph = EdgeGraph(ViTForImageClassification(config).eval())
    return {"graph": graph, "clean": rand(2, 3, 4, 4), "corrupt": 1 - rand(2, 3, 4, 4)}


def lenses() -> dict:
    """A tiny Llama with transcoders of its two MLPs."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from shared.sae import SAEConfig, SparseDict

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2}
    cfg = SAEConfig("topk", 8, 12, k=3, d_out=8)
    transcoders = {n: SparseDict(cfg, generator=torch.Generator().manual_seed(n)) for n in range(2)}
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=5)).eval()
    return {"model": model, "transcoders": transcoders, "layer": 1}


GOOD: Calls = {
    "distance_correlation": lambda: {"first": distances(0), "second": distances(1)},
    "intra_inter": lambda: {"distances": distances(0), "labels": torch.arange(6) % 2},
    "virtual_neurons": lambda: {"vectors": rand(6, 3)},
    "channel_scores": lambda: {"model": net(), "layers": ["1"], "x": rand(2, 3, 2, 2), "target": 1},
    "contribution_groups": lambda: {"contributions": rand(9, 5)},
    "feature_parts": lambda: {**lenses(), "ids": torch.tensor([[1, 2, 0], [3, 1, 2]]), "latent": 1},
    "group_shares": lambda: {"means": rand(2, 5)},
    "permuted_shares": lambda: {"shares": rand(2, 5).softmax(0), "strength": rand(5), "generator": torch.Generator()},
    "random_shares": lambda: {"strength": rand(5), "k": 2, "generator": torch.Generator()},
    "input_contributions": lambda: {"layer": conv(), "inputs": rand(2, 3, 4, 4), "units": [1]},
    "source_sets": lambda: {"contributions": rand(2, 6)},
    "split_by_shares": lambda: {"shares": rand(3, 5).softmax(0)},
    "split_by_sources": lambda: {"sources": torch.eye(2, 5, dtype=torch.bool)},
    "top_contributions": lambda: {"weight": rand(5), "activations": rand(3, 4, 5)},
    "edge_directions": lambda: pairs(),
    "edge_scores": lambda: {**pairs(), "target": 1},
    "faithfulness_curve": lambda: {**pairs(), "scores": rand(5, 7), "target": 1, "shares": [0.5, 1]},
    "patched_logits": lambda: {**pairs(), "circuits": EdgeLayout(2, 2).circuit(["input->a0", "a0.h1->logits"])},
    "projection_outliers": lambda: {"values": rand(3, 20)},
    "prune_edges": lambda: {**pairs(), "target": 1, "metric": "kl", "tau": 0.1},
    "steered_logits": lambda: {
        **{"graph": pairs()["graph"], "circuit": EdgeLayout(2, 2).circuit(["input->a0", "a0.h1->m1"])},
        **{"x": rand(2, 3, 4, 4), "directions": rand(7, 5, 8), "alpha": 0.5},
    },
    "top_edges": lambda: {"layout": EdgeLayout(2, 2), "scores": rand(5, 7), "n_edges": 3},
}
ELSEWHERE = {
    **dict.fromkeys(
        ("certify", "exact_votes", "smoothed_votes", "top_share"),
        "whole numbers, truth values and mappings; tests/circuits/test_certify.py",
    ),
    "reading_directions": "a model and a dictionary; tests/circuits/test_lenses.py",
    "class_relevance": "batches of images and classes; tests/circuits/test_classes.py",
    **dict.fromkeys(
        ("circuit_logits", "only_channels", "overlap"), "mappings of truth values; tests/circuits/test_nodes.py"
    ),
}
ANY_RANK = {("channel_scores", "x")}
