"""The judge of the diffusion model's samples: a small CNN that names every factor of the shapes world of 32 pixels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, pad
from tqdm.auto import tqdm

from shared.nets import FactorCNN
from shared.zoo import load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import ship, write_json, write_weights
from shared.zoo.recipes._small_world import FACTORS, SIDE, answers, draw_world
from shared.zoo.recipes._train import one_thread

NAME = "factors-shapes"
IMAGES, STEPS, BATCH, LR = 12_000, 2000, 64, 3e-3
HELD_OUT = 2000


@recipe(NAME)
def make(folder: Path) -> None:
    """Train, measure on held-out renders, and write the checkpoint and its card."""
    ship(
        folder,
        train=lambda kept: train().half(),
        write=write_files,
        measure=lambda folder: measure(load_model(str(folder)).model),
        title="A CNN that names every factor of the small shapes world",
        task="image-classification",
        source=f"Trained by Reprise on {IMAGES:,} renders, roughened anew in each of {STEPS:,} steps of {BATCH}",
        notes=(
            "The judge of diffusion-shapes' samples; it has seen none of them. One head per factor, in half precision: "
            f"{'; '.join(f'{name}: ' + ', '.join(values) for name, values in FACTORS.items())}."
        ),
    )


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


def write_files(model: nn.Module, folder: Path) -> None:
    """Weights and configuration."""
    write_weights(folder / "model.safetensors", model)
    config = {
        "architecture": "factor-cnn",
        "arguments": {"factors": {name: list(values) for name, values in FACTORS.items()}},
        "input_size": [3, SIDE, SIDE],
    }
    write_json(folder / "config.json", config)
