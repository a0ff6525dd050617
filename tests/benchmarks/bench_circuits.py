"""Costs of certifying a circuit, beside the scoring it rests on; of a split network, beside the network as it was."""

from __future__ import annotations

import torch
from clock import cpu_seconds, ratio_row
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from shared.circuits import (
    certify,
    channel_scores,
    deletion_masks,
    feature_parts,
    rewired,
    smoothed_votes,
    split_by_shares,
    split_by_sources,
    top_share,
)
from shared.lrp import Composite, attribute, channel_relevance
from shared.nets import EfficientNetLite0, SmallResNet, SmallVGG
from shared.sae import SAEConfig, SparseDict

LAYERS, ITEMS, SUBSETS = ["features.4", "features.9", "features.14"], 256, 1000


def run(quick: bool = False) -> list[dict]:
    """Rows of the benchmark table; `quick` repeats less. CPU seconds of this process."""
    repeats = 1 if quick else 3
    model = SmallVGG(1, 10, 28).eval()
    x = torch.rand(ITEMS, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    scoring = cpu_seconds(lambda: channel_scores(model, LAYERS, x, 0), repeats)
    scores = channel_scores(model, LAYERS, x, 0)
    masks = deletion_masks(SUBSETS, ITEMS, 0.6, generator=torch.Generator().manual_seed(1))
    fast = cpu_seconds(lambda: certify(_votes(scores, masks), SUBSETS), repeats)
    slow = cpu_seconds(lambda: smoothed_votes(lambda kept: _search(scores, kept), masks), 1)
    note = f"{ITEMS} images, a tenth of {sum(s.shape[1] for s in scores.values())} channels"
    return [
        ratio_row("circuits: 1,000 certified subsets", fast, "scores of the images", scoring, 0.05, note),
        ratio_row("circuits: 1,000 certified subsets", fast, "the search run for each subset", slow, 0.2, note),
        *_split_rows(repeats + 2),
        _unit_circuits(repeats + 2),
        _feature_parts(repeats + 2),
    ]


def _feature_parts(repeats: int) -> dict:
    """Every head's and upstream feature's part in a transcoder feature, beside the pass that it needs."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 6, "num_hidden_layers": 4}
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=1000)).eval()
    cfg = SAEConfig("topk", 192, 768, k=32, d_out=192)
    transcoders = {n: SparseDict(cfg, generator=torch.Generator().manual_seed(n)) for n in range(4)}
    ids = torch.randint(0, 1000, (64, 32), generator=torch.Generator().manual_seed(0))
    parts = cpu_seconds(lambda: feature_parts(model, transcoders, ids, 3, 5), repeats)
    with torch.no_grad():
        plain = cpu_seconds(lambda: model.model(ids, use_cache=False), repeats)
    note = "64 texts of 32 tokens, 4 blocks of 6 heads, 3 x 768 upstream features"
    return ratio_row("circuits: parts of a transcoder feature", parts, "a forward pass", plain, 2.0, note)


def _split_rows(repeats: int) -> list[dict]:
    """A network forward with 50 units of its last convolution in two sub-units each; the units' own sums are gone."""
    model, generator = EfficientNetLite0().eval(), torch.Generator().manual_seed(0)
    x, inputs = torch.rand(4, 3, 224, 224, generator=generator), model.head.conv.in_channels
    owner = torch.randint(0, 3, (inputs,), generator=generator)
    split = {"shares": split_by_shares(torch.rand(2, inputs, generator=generator).softmax(0))}
    split["sources and a residue"] = split_by_sources(owner == torch.arange(2)[:, None])
    rows = []
    with torch.no_grad():
        model(x)  # the first pass is slower
        for form, way in split.items():
            plain, ours = [], []
            for _ in range(repeats):  # by turns, so that both see the same machine
                plain.append(cpu_seconds(lambda: model(x), 1))
                with rewired(model, {"head.conv": dict.fromkeys(range(50), way)}):
                    ours.append(cpu_seconds(lambda: model(x), 1))
            plain, ours = min(plain), min(ours)
            rows.append(
                ratio_row(
                    f"circuits: forward, 50 units split by {form}", ours, "the network as it was", plain, 1.1, "224 px"
                )
            )
    return rows


def _unit_circuits(repeats: int) -> dict:
    """Circuits of 400 references (PURE): a backward pass from each one's own unit to the block's input."""
    block, generator = SmallResNet(1, 10).stages[2].eval().requires_grad_(False), torch.Generator().manual_seed(0)
    hidden, unit = torch.rand(400, 32, 14, 14, generator=generator), torch.arange(400) % 64
    wrapped, options = nn.Sequential(block), {"start_layer": "0", "init": "coefficient", "composite": Composite([])}

    def plain() -> Tensor:
        leaf = hidden.clone().requires_grad_(True)
        a = block(leaf)[torch.arange(400), unit]
        return (leaf.detach() * torch.autograd.grad(a, leaf, a.detach().clamp(min=0))[0]).sum((2, 3))

    ours, theirs = [], []
    for _ in range(repeats):
        theirs.append(cpu_seconds(plain, 1))
        ours.append(cpu_seconds(lambda: channel_relevance(attribute(wrapped, hidden, unit, **options).relevance), 1))
    note = "a residual block of 64 units, 14 px; the graph is checked once more"
    return ratio_row(
        "circuits: circuits of 400 references", min(ours), "torch.autograd.grad by hand", min(theirs), 2, note
    )


def _votes(scores: dict[str, Tensor], masks: Tensor) -> dict[str, Tensor]:
    return {name: kept.sum(0) for name, kept in top_share(scores, masks, 0.1).items()}


def _search(scores: dict[str, Tensor], kept: Tensor) -> Tensor:
    """The same search on one subset."""
    whole = torch.zeros(1, ITEMS, dtype=torch.bool).index_fill(1, kept, True)
    return torch.cat([found[0] for found in top_share(scores, whole, 0.1).values()])


if __name__ == "__main__":
    import sys

    for row in run("--quick" in sys.argv):
        print(row)
