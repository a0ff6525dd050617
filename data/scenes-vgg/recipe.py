"""A multi-label classifier of scenes of shapes: the encoder that segmentation starts from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm.auto import tqdm

from shared.nets import PooledVGG
from shared.worlds import SCENE_SHAPES, shape_scenes
from shared.zoo import load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import ship, write_json, write_weights
from shared.zoo.recipes._train import one_thread

NAME = "scenes-vgg"
SIDE, WIDTHS = 24, ((12, 12), (24,), (48,))
MEAN, STD = 0.45, 0.22  # of pixels
IMAGES, STEPS, BATCH, LR, HELD_OUT = 4000, 700, 64, 5e-3, 1000


@recipe(NAME)
def make(folder: Path) -> None:
    """Train, measure, and write the checkpoint and its card."""
    ship(
        folder,
        train=lambda kept: train(),
        write=write_files,
        measure=lambda folder: measure(load_model(str(folder)).model),
        title="A small VGG that says which shapes a scene shows",
        task="image-classification",
        source=f"Trained by Reprise on {IMAGES:,} scenes of shapes with image labels, {STEPS:,} steps of {BATCH}",
        notes=(
            f"Input (B, 3, {SIDE}, {SIDE}) in [0, 1], then normalised, of any size; a logit for the background, "
            f"which was not trained, and one each for {', '.join(SCENE_SHAPES)}. No masks were seen. Measured on "
            f"{HELD_OUT:,} other scenes."
        ),
    )


def train(steps: int = STEPS, images: int = IMAGES, seed: int = 0) -> nn.Module:
    """The classifier, in eval mode."""
    x, _, labels = shape_scenes(images, generator=61, size=SIDE)
    x = (x - MEAN) / STD
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        model = PooledVGG(3, 1 + len(SCENE_SHAPES), widths=WIDTHS).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(model.parameters(), LR)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
        for _ in (bar := tqdm(range(steps), leave=False, mininterval=20)):
            rows = torch.randint(images, (BATCH,), generator=generator)
            flips = [axis for axis in (2, 3) if torch.rand((), generator=generator) < 0.5]
            batch = x[rows].flip(flips).contiguous(memory_format=torch.channels_last)
            loss = binary_cross_entropy_with_logits(model(batch)[:, 1:], labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    return model.to(memory_format=torch.contiguous_format).eval()


@torch.no_grad()
def measure(model: nn.Module) -> dict[str, float]:
    """Image labels that it gets right on other scenes."""
    x, _, labels = shape_scenes(HELD_OUT, generator=71, size=SIDE)
    right = ((model((x - MEAN) / STD)[:, 1:] > 0) == labels.bool()).double()
    measured = {"image labels that are right": right.mean(), "the worst shape": right.mean(0).min()}
    return {what: round(float(value), 4) for what, value in measured.items()}


def write_files(model: nn.Module, folder: Path) -> None:
    """Weights and configuration."""
    write_weights(folder / "model.safetensors", model)
    config = {
        "architecture": "pooled-vgg",
        "arguments": {"channels": 3, "n_classes": 1 + len(SCENE_SHAPES), "widths": [list(w) for w in WIDTHS]},
        "input_size": [3, SIDE, SIDE],
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "classes": ["background", *SCENE_SHAPES],
    }
    write_json(folder / "config.json", config)
