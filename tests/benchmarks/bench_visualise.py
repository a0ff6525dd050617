"""Feature visualisation: 20 classes in one batch beside one after the other; VITAL's matching beside torch's own sort.

Rounds alternate between the contestants; the smallest CPU time of each counts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_correction import row, seconds

from shared.nets import SmallResNet
from shared.vision import visualise as vis

Row = dict[str, Any]
CLASSES, SHAPE = 20, (1, 28, 28)


def run(quick: bool = False) -> list[Row]:
    """All rows; `quick` takes one round."""
    torch.manual_seed(0)
    net = SmallResNet(1, CLASSES).eval()
    layers = ["stem", "stages.0", "stages.1", "stages.2"]
    x = torch.rand(10 * CLASSES, *SHAPE)
    references = vis.sorted_features(net, layers, x, groups=torch.arange(CLASSES).repeat_interleave(10))
    rounds, steps = (1, 2) if quick else (5, 10)

    def made(rows: slice) -> None:
        part = {layer: reference[rows] for layer, reference in references.items()}
        canvas = vis.PixelCanvas(len(part["stem"]), SHAPE)
        vis.render(net, vis.matching(part), canvas, steps=steps, transforms=[vis.roll_jitter(2)])

    z, one = torch.rand(CLASSES, 16, 784), references["stem"]
    jobs: dict[str, Callable[[], Any]] = {
        "at once": lambda: made(slice(None)),
        "one by one": lambda: [made(slice(i, i + 1)) for i in range(CLASSES)],
        "sort_match": lambda: slope(lambda v: vis.sort_match(v, one), z),
        "torch's sort": lambda: slope(lambda v: (v.sort(-1).values - one).square().mean((1, 2)), z),
    }
    best = seconds(jobs, rounds)
    size = f"{CLASSES} classes of 28 × 28, ResNet of 3 blocks, {steps} steps"
    return [
        row(f"VITAL's images at once, {size}", best["at once"], "one by one", best["one by one"], 0.5),
        row(
            "sort_match and its gradient, 20 × 16 × 784", best["sort_match"], "torch's sort", best["torch's sort"], 1.0
        ),
    ]


def slope(loss: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    return torch.autograd.grad(loss(z).sum(), z)[0]


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))
