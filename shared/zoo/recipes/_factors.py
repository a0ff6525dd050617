"""The judge of the diffusion model's samples: a small CNN that names every factor of the shapes world of 32 pixels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, pad
from tqdm.auto import tqdm

from shared.nets import FactorCNN
from shared.zoo._models import SHIPPED
from shared.zoo.recipes._diffusion import FACTORS, draw_world
from shared.zoo.recipes._train import one_thread
from shared.zoo.recipes._write import write_json, write_model_card, write_weights

NAME = "factors-shapes"
IMAGES, STEPS, BATCH, LR = 12_000, 2000, 64, 3e-3
HELD_OUT = 2000


def roughened(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blurred, noisy and brighter or darker, each image by its own amount: what a decoder may do to a sample."""
    u = torch.rand(3, len(images), 1, 1, 1, generator=generator)
    soft = avg_pool2d(pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mixed = images + 0.6 * u[0] * (soft - images)
    return mixed + 0.06 * u[1] * torch.randn(images.shape, generator=generator) + 0.1 * (u[2] - 0.5)


def train(steps: int = STEPS, seed: int = 0) -> nn.Module:
    """The judge in eval mode, trained on renders only."""
    world = draw_world(IMAGES, 11)
    images = world.pop("images")
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        model = FactorCNN({name: list(values) for name, values in FACTORS.items()})
        model = model.to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=steps, pct_start=0.2)
        for _ in tqdm(range(steps), leave=False, mininterval=20):
            rows = torch.randint(len(images), (BATCH,), generator=generator)
            found = model(roughened(images[rows], generator).contiguous(memory_format=torch.channels_last))
            loss = sum(cross_entropy(logits, world[name][rows]) for name, logits in found.items())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()


@torch.no_grad()
def answers(model: nn.Module, images: Tensor, batch: int = 500) -> dict[str, Tensor]:
    """The value (N,) that the judge sees of each factor."""
    parts = [model(part) for part in images.split(batch)]
    return {name: torch.cat([part[name] for part in parts]).argmax(1) for name in FACTORS}


def make_factors() -> None:
    """Train, measure on held-out renders, and write the checkpoint and its card."""
    model = train().half()
    write_card(write_files(model), measure(model.float()))


def measure(model: nn.Module) -> dict[str, float]:
    """Accuracy by factor on held-out renders, as they are and roughened."""
    world = draw_world(HELD_OUT, 12)
    rough = roughened(world["images"], torch.Generator().manual_seed(0))
    measured = {}
    for what, images in (("held-out renders", world["images"]), ("roughened renders", rough)):
        found = answers(model, images)
        measured |= {
            f"{name}, {what}: accuracy": round((found[name] == world[name]).double().mean().item(), 4)
            for name in FACTORS
        }
    return measured


def write_files(model: nn.Module) -> Path:
    """Weights and configuration; returns the folder."""
    folder = SHIPPED / NAME
    write_weights(folder / "model.safetensors", model)
    config = {
        "architecture": "factor-cnn",
        "arguments": {"factors": {name: list(values) for name, values in FACTORS.items()}},
        "input_size": [3, 32, 32],
    }
    write_json(folder / "config.json", config)
    return folder


def write_card(folder: Path, measured: dict[str, float]) -> None:
    """The provenance card, with the digests of the files and the numbers just measured."""
    write_model_card(
        NAME,
        folder,
        measured,
        title="A CNN that names every factor of the small shapes world",
        task="image-classification",
        source=f"Trained by Reprise on {IMAGES:,} renders, roughened anew in each of {STEPS:,} steps of {BATCH}",
        recipe="_factors",
        notes=(
            "The judge of diffusion-shapes' samples; it has seen none of them. One head per factor, in half precision: "
            f"{'; '.join(f'{name}: ' + ', '.join(values) for name, values in FACTORS.items())}."
        ),
    )
