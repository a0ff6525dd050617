"""Costs of freezing and of pruning for continual learning, beside a plain step and a copy of the model per mask."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from shared.pruning import freeze_rows, masked, subnetwork


def run(quick: bool = False) -> list[dict]:
    """Rows of the benchmark table; `quick` repeats less. CPU seconds of this process."""
    return [_step(8 if quick else 40), _evaluation(4 if quick else 20)]


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    parts = nn.Conv2d(1, 16, 5, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*parts, nn.Linear(800, 64), nn.ReLU(), nn.Linear(64, 2)).eval()


def _masks(net: nn.Sequential) -> dict[str, torch.Tensor]:
    return {name: torch.arange(len(net.get_submodule(name).weight)) % 2 == 0 for name in ("0", "2", "5")}


def _seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def _step(repeats: int) -> dict:
    """A training step with half the units frozen over a plain one; runs interleaved."""
    x, y, times = torch.rand(32, 1, 28, 28), torch.arange(32) % 2, {True: [], False: []}
    nets = {frozen: _net() for frozen in times}
    optimizers = {frozen: torch.optim.Adam(net.parameters(), fused=True) for frozen, net in nets.items()}

    def step(frozen: bool) -> None:
        optimizers[frozen].zero_grad()
        cross_entropy(nets[frozen](x), y).backward()
        optimizers[frozen].step()

    for _ in range(repeats):
        for frozen, net in nets.items():
            with freeze_rows(net, _masks(net), optimizers[frozen]) if frozen else nullcontext():
                times[frozen].append(_seconds(lambda f=frozen: [step(f) for _ in range(5)]))
    ours, plain = (float(np.median(times[frozen])) / 5 for frozen in (True, False))
    return _row("training step, half the units frozen", ours, "a plain step", plain, 1.3, "Adam, batch of 32")


@torch.no_grad()
def _evaluation(repeats: int) -> dict:
    """Validation with masks as factors over validation of a copy for each mask."""
    net, x = _net(), torch.rand(200, 1, 28, 28)
    masks, times = _masks(net), {"ours": [], "copy": []}
    for _ in range(repeats):
        with masked(net, masks):
            times["ours"].append(_seconds(lambda: net(x)))
        times["copy"].append(_seconds(lambda: subnetwork(net, masks)(x)))
    ours, copied = (float(np.median(t)) for t in times.values())
    return _row("validation of a pruned network", ours, "a copy for each mask", copied, 1.0, "200 images")


def _row(benchmark: str, ours: float, reference: str, theirs: float, aim: float, note: str) -> dict:
    row = {"benchmark": f"continual: {benchmark}", "ours_s": ours, "reference": reference, "reference_s": theirs}
    return row | {"ratio": ours / theirs, "aim": aim, "note": note}


if __name__ == "__main__":
    import sys

    for row in run("--quick" in sys.argv):
        print(row)
