"""3-D CNNs that tell simulated patients from controls: the groups differ in the basal ganglia, elsewhere, or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.nets import graz_net
from shared.worlds import brain_cohort
from shared.zoo import load_data
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._train import one_thread

LAYOUTS = {
    "basal ganglia": {"putamen": 8.0, "caudate": 7.0, "pallidum": 6.0},
    "elsewhere": {"thalamusproper": 6.0, "hippocampus": 6.0},
}
SEEDS, PILOTS = range(8), range(500, 503)
N, PART, NOISE, STEPS, BATCH, LR = 800, 50, 2.0, 400, 32, 2e-3


def cohort(layout: str, seed: int) -> tuple[Tensor, Tensor]:
    """Volumes without noise and labels of the subjects one network learns from, half of them patients."""
    labels = load_data("brain-atlas").arrays["labels"]
    generator = torch.Generator().manual_seed(seed)
    options = {"n": PART, "effects": LAYOUTS[layout], "patients": 0.5, "noise": 0.0, "generator": generator}
    parts = [brain_cohort(labels, **options) for _ in range(N // PART)]
    return torch.cat([part.volumes for part in parts]), torch.cat([part.y for part in parts])


def windowed(volumes: Tensor) -> Tensor:
    """What the networks take: R2* above 12 s⁻¹, over 10 s⁻¹."""
    return (volumes - 12).clamp(min=0) / 10


def batches(x: Tensor, y: Tensor, generator: torch.Generator):
    """Random subjects, half of them mirrored, with new noise inside the brain, as `windowed`."""
    for _ in range(STEPS):
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        flip = (torch.rand(BATCH, generator=generator) < 0.5).view(-1, 1, 1, 1, 1)
        part = torch.where(flip, x[rows].flip(2), x[rows])
        noisy = (part + NOISE * torch.randn(part.shape, generator=generator)).clamp(min=0) * (part > 0)
        yield windowed(noisy).bfloat16().contiguous(memory_format=torch.channels_last_3d), y[rows]


def network(x: Tensor, y: Tensor, seed: int) -> nn.Sequential:
    """Train one network in bfloat16 on float32 weights; biases are held at or below 0."""
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        net = graz_net(x.shape[2:], stages=3, stride=2)
        weights = [p.detach().clone().requires_grad_() for p in net.parameters()]
        net = net.to(torch.bfloat16, memory_format=torch.channels_last_3d)
        optimiser = torch.optim.Adam(weights, LR)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, STEPS)
        for part, goal in batches(x, y, torch.Generator().manual_seed(seed)):
            net.zero_grad()
            F.cross_entropy(net(part).float(), goal).backward()
            for weight, low in zip(weights, net.parameters()):
                weight.grad = low.grad.float().contiguous()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for weight, low in zip(weights, net.parameters()):
                    low.copy_(weight.clamp_(max=0) if weight.ndim == 1 else weight)
    return net.float().eval()


def trained(seed: int) -> dict[str, np.ndarray]:
    """A seed's networks by what they learnt, as half-precision vectors of weights; pilots learn no permuted labels."""
    found = {}
    for layout in LAYOUTS:
        x, y = cohort(layout, seed)
        found[layout] = network(x, y, seed)
        if layout == "basal ganglia" and seed in SEEDS:
            shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(seed + 10_000))]
            found["labels permuted"] = network(x, shuffled, seed)
    weights = {k: torch.cat([p.detach().flatten() for p in net.parameters()]) for k, net in found.items()}
    return {k: v.half().numpy() for k, v in weights.items()}


def write(folder: Path, found: list[dict[str, np.ndarray]]) -> None:
    """Stack what `trained` gave."""
    arrays = {key: np.stack([one[key] for one in found if key in one]) for key in found[0]}
    write_arrays(folder / "brain-networks.npz", {key.replace(" ", "_"): value for key, value in arrays.items()})


@recipe("brain-networks")
def make(folder: Path) -> None:
    """Train all of them: about eight minutes on one core that computes in bfloat16."""
    write(folder, [trained(seed) for seed in (*SEEDS, *PILOTS)])
