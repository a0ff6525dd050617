"""What RelDrop's training step costs beside a plain one, and beside random erasing, which needs no map.

The batch is occluded every time (p = 1); with the paper's p = 0.5 half of the steps cost what a plain one does. Rounds
alternate between the contestants; the smallest CPU time of each counts.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from shared.correction import InputDropout, RandomErasing, RelDropBlock, RelDropPixel, occlude
from shared.nets import ConvNorm, SmallResNet

Row = dict[str, Any]


def run(quick: bool = False) -> list[Row]:
    """All rows; `quick` takes fewer rounds."""
    torch.manual_seed(0)
    cnn = nn.Sequential(*(ConvNorm(1, 16), ConvNorm(16, 32, stride=2)), nn.Flatten(), nn.Linear(32 * 14 * 14, 10))
    rows: list[Row] = []
    for name, net, batch in (("small CNN", cnn, 100), ("ResNet of 3 blocks", SmallResNet(1, 10), 50)):
        x, y = torch.randn(batch, 1, 28, 28), torch.randint(10, (batch,))
        dropouts = {
            "RelDrop block": RelDropBlock(p=1),
            "RelDrop pixel": RelDropPixel(p=1),
            "erasing": RandomErasing(p=1),
        }
        jobs = {"plain": step(net, x, y, None), **{n: step(net, x, y, d) for n, d in dropouts.items()}}
        best = seconds(jobs, 2 if quick else 9)
        size = f"training step, {name}, {batch} images of 28 × 28"
        aims = {"RelDrop block": 2.2, "RelDrop pixel": 2.2, "erasing": 1.1}
        rows += [row(f"{n}, {size}", best[n], "plain step", best["plain"], aim) for n, aim in aims.items()]
    return rows


def step(net: nn.Module, x: Tensor, y: Tensor, dropout: InputDropout | None) -> Callable[[], None]:
    """One step of SGD on a copy of the network."""
    net, generator = copy.deepcopy(net).train(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)

    def once() -> None:
        batch = occlude(net, x, y, dropout, generator=generator) if dropout else x
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(batch), y).backward()
        optimiser.step()

    return once


def seconds(jobs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Smallest CPU time of each job over alternating rounds, after one warm-up of each."""
    best: dict[str, float] = {}
    for n in range(rounds + 1):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            if n:
                best[name] = min(best.get(name, float("inf")), time.process_time() - start)
    return best


def row(benchmark: str, ours: float, reference: str, theirs: float, aim: float) -> Row:
    return dict(benchmark=benchmark, ours_s=ours, reference=reference, reference_s=theirs, ratio=ours / theirs, aim=aim)


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))
