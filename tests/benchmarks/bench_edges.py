"""Costs of edge circuits: scores beside the passes they are made of, a search beside the same from the input on."""

from __future__ import annotations

import torch
from clock import cpu_seconds, ratio_row
from transformers import ViTConfig, ViTForImageClassification

from shared.circuits import EdgeGraph, edge_scores, prune_edges

PAIRS = 64


def run(quick: bool = False) -> list[dict]:
    """Rows of the benchmark table; `quick` repeats less. CPU seconds of this process."""
    repeats = 2 if quick else 5
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 4}
    config = ViTConfig(**sizes, image_size=28, patch_size=4, num_channels=1, num_labels=10, initializer_range=0.1)
    model = ViTForImageClassification(config).eval()
    clean, corrupt = torch.rand(2, PAIRS, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    graph = EdgeGraph(model)

    def passes() -> None:
        with torch.no_grad():
            model(corrupt)
        pixels = clean.clone().requires_grad_()
        torch.autograd.grad(model(pixels).logits[:, 0].sum(), pixels)

    def search(prefix_cache: bool) -> object:
        return prune_edges(graph, clean, corrupt, 0, tau=0.01, metric="kl", prefix_cache=prefix_cache)

    eap = cpu_seconds(lambda: edge_scores(graph, clean, corrupt, 0, method="eap"), repeats)
    two = cpu_seconds(passes, repeats)
    exact = cpu_seconds(lambda: edge_scores(graph, clean, corrupt, 0, method="exact"), 1)
    fast, slow = cpu_seconds(lambda: search(True), 1), cpu_seconds(lambda: search(False), 1)
    note = f"ViT of 4 blocks of 4 heads, {graph.layout.n_edges} edges, {PAIRS} pairs"
    return [
        ratio_row("circuits: EAP of all edges", eap, "two forward passes and a backward one", two, 1.3, note),
        ratio_row("circuits: EAP of all edges", eap, "exact scores, from each receiver on", exact, 0.3, note),
        ratio_row("circuits: a circuit by pruning", fast, "the same without the cached prefix", slow, 1 / 3, note),
    ]


if __name__ == "__main__":
    import sys

    for row in run("--quick" in sys.argv):
        print(row)
