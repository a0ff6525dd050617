"""Make the golden scores of filters with zennit, as `erfanhatefi/Pruning-by-eXplaining-in-PyTorch` takes them.

Run from the repository root in the throw-away environment of make_lrp.py, after it: network and images are those of
lrp_zennit_conv.npz.

    python tests/golden/make_pruning.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from make_lrp import EPS, FOLDER, conv_net, save, stub_torchvision, zennit_composites

LAYERS = ("0", "3")
TARGET = 1


def network() -> tuple[torch.nn.Module, torch.Tensor]:
    with np.load(FOLDER / "lrp_zennit_conv.npz") as stored:
        weights = {name.removeprefix("state."): torch.tensor(stored[name]) for name in stored if "state." in name}
        x = torch.tensor(stored["x"])
    model = conv_net()
    model.load_state_dict(weights)
    return model.double().eval(), x


def hidden_relevance(composite: object) -> dict[str, torch.Tensor]:
    """Relevance of the layers' outputs `(B, C, H, W)`; it starts as 1 at the target. zennit carries it as gradient."""
    model, x = network()
    outputs = {}

    def keep(name: str) -> object:
        def hook(_module: object, _args: object, out: torch.Tensor) -> None:
            out.retain_grad()
            outputs[name] = out

        return hook

    with composite.context(model) as modified:
        handles = [modified.get_submodule(name).register_forward_hook(keep(name)) for name in LAYERS]
        logits = modified(x.requires_grad_())
        start = torch.zeros_like(logits)
        start[:, TARGET] = 1.0
        logits.backward(start)
        for handle in handles:
            handle.remove()
    return {name: out.grad for name, out in outputs.items()}


if __name__ == "__main__":
    stub_torchvision()
    arrays = {}
    for name in ("epsilon_plus", "epsilon_alpha2_beta1"):
        for layer, relevance in hidden_relevance(zennit_composites(network()[0], EPS)[name]).items():
            per_image = relevance.sum((2, 3))
            arrays[f"{name}.{layer}.sample"] = per_image.abs().sum(0)
            arrays[f"{name}.{layer}.none"] = per_image.sum(0)
    save("pruning_zennit.npz", arrays)
