"""Make the golden arrays of conditional relevance with zennit-crp. Not run by CI.

Run from the repository root in a throw-away environment with torch, numpy, `zennit==0.5.1` and, without its
dependencies, `zennit-crp==0.6.0`, after make_lrp.py:

    python tests/golden/make_crp.py

The network and its weights are those of lrp_zennit_conv.npz.
"""

from __future__ import annotations

import numpy as np
import torch
from make_lrp import EPS, FOLDER, conv_net, save, stub_torchvision


def main() -> None:
    stub_torchvision()
    from crp.attribution import CondAttribution
    from crp.concepts import ChannelConcept
    from zennit.composites import EpsilonPlusFlat

    with np.load(FOLDER / "lrp_zennit_conv.npz") as file:
        weights = {k.removeprefix("state."): torch.from_numpy(file[k]) for k in file.files if k.startswith("state.")}
    model = conv_net()
    model.load_state_dict(weights)
    model = model.double().eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 3, 12, 12, generator=generator)
    attribution = CondAttribution(model)
    composite = EpsilonPlusFlat(epsilon=EPS, stabilizer=EPS)

    def call(conditions, record=(), composite=composite, **options):
        leaf = x.double().requires_grad_()
        return leaf, attribution(leaf, conditions, composite, record_layer=list(record), **options)

    def positive(activation):
        return activation.clamp(min=0)

    arrays = {"x": x}
    for n in range(5):
        first = torch.randperm(8, generator=generator)[:5].sort().values
        second = torch.randperm(12, generator=generator)[: n + 2].sort().values
        arrays |= {f"first{n}": first, f"second{n}": second}
        _, found = call([{"y": [1], "4": second.tolist(), "1": first.tolist()}])
        arrays[f"heatmap{n}"] = found.heatmap
    _, whole = call([{"y": [1]}], record=["4"])
    arrays["channels"] = ChannelConcept().attribute(whole.relevances["4"], abs_norm=True)
    _, started = call([{"4": [3]}], start_layer="4", init_rel=positive)
    arrays["started"] = started.heatmap
    leaf, _ = call([{"4": [3]}], composite=None, start_layer="4", init_rel=positive)  # without rules: plain gradients
    arrays["gradient"] = leaf.grad
    save("lrp_zennit_crp.npz", arrays)


if __name__ == "__main__":
    main()
