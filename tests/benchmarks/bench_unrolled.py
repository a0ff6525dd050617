"""What a training step through heatmaps costs: unrolled LRP beside a double backward of gradient × input.

Both give the heatmaps of all classes for the same images, a cross-entropy on them and the gradients of all weights.
The reference is what one writes without a library: `autograd.grad(z_c, x, create_graph=True) * x` class by class.
Rounds alternate; the smallest time of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.lrp.unrolled import UnrolledLRP
from shared.nets import PooledVGG, SmallResNet

CLASSES = 5
REFERENCE = "double backward of gradient × input"


def run(quick: bool = False) -> list[dict[str, Any]]:
    """A row for each network and rule; `quick` takes fewer rounds."""
    torch.manual_seed(0)
    x, masks = torch.rand(5, 3, 32, 32), torch.randint(CLASSES, (5, 32, 32))
    rows = []
    for name, model in (("VGG", PooledVGG(3, CLASSES)), ("ResNet", SmallResNet(3, CLASSES, widths=(8, 16, 32)))):
        model.eval()
        jobs = {
            f"{rule}, {name}": step(
                model, lambda x, r=rule, m=model: UnrolledLRP(m, rule=r, first=first(r))(x)[1], x, masks
            )
            for rule in ("zplus", "epsilon")
        }
        best = seconds(
            jobs | {REFERENCE: step(model, lambda x, m=model: gradient_heatmaps(m, x), x, masks)}, 4 if quick else 15
        )
        for job in jobs:
            rows.append(
                {
                    "benchmark": f"training step through heatmaps ({job})",
                    "ours_s": best[job],
                    "reference": REFERENCE,
                    "reference_s": best[REFERENCE],
                    "ratio": best[job] / best[REFERENCE],
                    "aim": 1.5,
                }
            )
    return rows


def first(rule: str) -> str | None:
    return "flat" if rule == "zplus" else None


def gradient_heatmaps(model: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    logits = model(x)
    maps = [torch.autograd.grad(z.sum(), x, create_graph=True)[0] * x for z in logits.T]
    return torch.stack(maps, 1).sum(2)


def step(model: nn.Module, heatmaps: Callable[[Tensor], Tensor], x: Tensor, masks: Tensor) -> Callable[[], None]:
    def job() -> None:
        model.zero_grad(set_to_none=True)
        cross_entropy(100 * heatmaps(x), masks).backward()

    return job


def seconds(jobs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    best = dict.fromkeys(jobs, float("inf"))
    for n in range(rounds + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if n:
                best[name] = min(best[name], time.perf_counter() - start)
    return best
