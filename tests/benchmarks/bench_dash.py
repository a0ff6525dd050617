"""Training with DASH beside plain training: a pruning every 20 steps, ten times as often as the authors', costs little.

350 genes and 40 neurons per branch, the paper's own; a batch is two trajectories of ten times.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_lrp import Row, row, seconds

from shared.nets import Phoenix, solve_step
from shared.pruning import dash_scores, keep_masks, start_scores

GENES, HIDDEN, EVERY = 350, 40, 20


def run(quick: bool = False) -> list[Row]:
    """All rows; `quick` takes one round of fewer steps."""
    steps = EVERY if quick else 3 * EVERY
    generator = torch.Generator().manual_seed(0)
    prior = (torch.rand(GENES, GENES, generator=generator) < 0.005).float()
    x = torch.rand(18, GENES, generator=generator)
    best = seconds({"dash": lambda: train(x, prior, steps, EVERY), "plain": lambda: train(x, prior, steps, None)}, 3)
    where = f"{steps} steps of PHOENIX, {GENES} genes, DASH every {EVERY}"
    return [row(where, best["dash"], "the same steps without pruning", best["plain"], 1.3)]


def train(x: torch.Tensor, prior: torch.Tensor, steps: int, every: int | None) -> None:
    """Adam on single steps of the ODE; weights are masked after each step once there are masks."""
    net = Phoenix(GENES, HIDDEN, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    scores, masks = start_scores(net), {}
    for step in range(steps):
        if every and step % every == 0:
            scores = dash_scores(net, scores, prior)
            masks = keep_masks(scores, 0.7, scope="layer")
        optimizer.zero_grad()
        (solve_step(net, x, 1.0) - x).square().mean().backward()
        optimizer.step()
        for name, mask in masks.items():
            net.get_parameter(name).data.mul_(mask)
