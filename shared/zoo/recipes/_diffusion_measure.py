"""What the small diffusion model can do by guidance and scheduler: prompts followed, factor by factor, and quality, as
a factor CNN sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.zoo._models import load_model
from shared.zoo._pipelines import load_pipeline
from shared.zoo.recipes._diffusion import BATCH, FACTORS, IMAGES, NAME, SIDE, STEPS, UNTOLD, draw_world, sentence
from shared.zoo.recipes._factors import NAME as JUDGE
from shared.zoo.recipes._factors import answers
from shared.zoo.recipes._write import write_model_card

PROMPTS, STEPS_TAKEN, GUIDANCE = 120, 16, 3.0
SAMPLES, RENDERS = 500, 4000  # for the Fréchet distance
QUALITY = "Fréchet distance to renders"
SCHEDULERS = {"DDIM": "DDIMScheduler", "Euler": "EulerDiscreteScheduler", "DPM++": "DPMSolverMultistepScheduler"}


@torch.no_grad()
def measure(folder: Path | str = NAME) -> dict[str, float]:
    """The card's numbers, on prompts that tell every factor, and on the autoencoder's reconstructions."""
    pipeline, judge = load_pipeline(str(folder)), load_model(JUDGE)
    world = draw_world(PROMPTS, 21)
    images = world["images"]
    again = pipeline.vae.decode(pipeline.vae.encode(images * 2 - 1).latent_dist.mean).sample / 2 + 0.5
    error = (again.clamp(0, 1) - images).square().mean()
    found = {"autoencoder: peak signal to noise, dB": round(-10 * error.log10().item(), 2)}
    seen = answers(judge, again)
    for name in FACTORS:
        found[f"autoencoder: {name} kept"] = share(seen[name], world[name])
    renders = neck(judge, draw_world(RENDERS, 23)["images"])
    more = draw_world(SAMPLES, 22)
    found[f"other renders: {QUALITY}"] = frechet(neck(judge, more["images"]), renders)
    again = pipeline.vae.decode(pipeline.vae.encode(more["images"] * 2 - 1).latent_dist.mean).sample / 2 + 0.5
    found[f"autoencoder: {QUALITY}"] = frechet(neck(judge, again.clamp(0, 1)), renders)
    settings = [("DDIM", 1.0), ("DDIM", GUIDANCE), ("DDIM", 6.0), *((name, GUIDANCE) for name in list(SCHEDULERS)[1:])]
    for scheduler, guidance in settings:
        which = f"{scheduler}, guidance {guidance:g}"
        right = followed(pipeline, judge, world, scheduler, guidance)
        found |= {f"{which}: {name} as told": value for name, value in right.items()}
        shown = samples(pipeline, more, scheduler, guidance)
        found[f"{which}: {QUALITY}"] = frechet(neck(judge, shown), renders)
    return found


def followed(pipeline: Any, judge: Any, world: dict[str, Tensor], scheduler: str, guidance: float) -> dict[str, float]:
    """Share of samples that show what the prompt tells, by factor, and of those that show all of it."""
    shown = samples(pipeline, world, scheduler, guidance)
    seen = answers(judge, shown)
    right = {name: share(seen[name], world[name]) for name in FACTORS}
    return right | {"everything": share(torch.stack([seen[name] == world[name] for name in FACTORS]).all(0), True)}


def samples(pipeline: Any, world: dict[str, Tensor], scheduler: str, guidance: float) -> Tensor:
    """Samples (N, 3, 32, 32) of prompts that tell every factor of the world's N images."""
    import diffusers

    n = len(world["images"])
    told = [{name: FACTORS[name][world[name][i]] for name in FACTORS} for i in range(n)]
    prompts = [sentence(one | {"word": None if one["word"] == "none" else one["word"]}) for one in told]
    pipeline.scheduler = getattr(diffusers, SCHEDULERS[scheduler]).from_config(pipeline.scheduler.config)
    noise = torch.randn(n, pipeline.unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    shown = pipeline(
        prompts, latents=noise, num_inference_steps=STEPS_TAKEN, guidance_scale=guidance, output_type="pt"
    ).images
    return shown.float()


def neck(judge: Any, images: Tensor, batch: int = 500) -> Tensor:
    """The judge's last features (N, 96)."""
    return torch.cat([judge.neck(judge.body(part * 4 - 2)) for part in images.split(batch)])


def frechet(a: Tensor, b: Tensor) -> float:
    """Fréchet distance |μ_a − μ_b|² + tr(C_a + C_b − 2 (C_a C_b)^½) of Gaussians fitted to features (N, d)."""
    a, b = a.double(), b.double()
    left, right = torch.cov(a.T), torch.cov(b.T)
    value, vector = torch.linalg.eigh(left)
    root = vector * value.clamp_min(0).sqrt() @ vector.T
    both = torch.linalg.eigvalsh(root @ right @ root).clamp_min(0).sqrt().sum()
    return round(((a.mean(0) - b.mean(0)).square().sum() + left.trace() + right.trace() - 2 * both).item(), 4)


def share(found: Tensor, truth: Any) -> float:
    return round((found == truth).double().mean().item(), 4)


def write_card(folder: Path, measured: dict[str, float]) -> None:
    """The provenance card, with the digests of the files and the numbers just measured."""
    write_model_card(
        NAME,
        folder,
        measured,
        title="Stable Diffusion in small: text to images of the shapes world, 32 pixels",
        task="text-to-image",
        source=(
            f"Trained by Reprise on {IMAGES:,} images of one object each, {STEPS:,} steps of {BATCH} with captions "
            f"drawn anew and left out {UNTOLD:.0%} of the time; the text tower is clip-shapes', frozen"
        ),
        recipe="_diffusion",
        notes=(
            "A StableDiffusionPipeline of diffusers in half precision: latents of 8 × 8 × 6, velocity prediction; "
            "zoo.load_pipeline reads it. Prompts tell any of the factors, “a large red circle on the left on a dark "
            "barred background with the text "
            + '"cat"”; an untold shape is “shape”. '
            + "; ".join(f"{name}: {', '.join(values)}" for name, values in FACTORS.items())
            + f". The world is cut down from the one that clip-shapes knows ({SIDE} pixels, one object, bars and "
            "squares always in the same place, words in the lower strip); “left” and “right” are words the text tower "
            f"never saw, read letter by letter. Measured by {JUDGE} on {PROMPTS} prompts that tell everything, "
            f"{STEPS_TAKEN} steps; the Fréchet distance on its last features, {SAMPLES} samples against {RENDERS} "
            "renders, beside that of other renders (what so few samples cost) and of renders through the autoencoder."
        ),
        tolerance=slack,
    )


def slack(what: str, value: float) -> float:
    """Two points of a share, a twentieth of a distance."""
    return max(0.02, round(0.05 * value, 2)) if QUALITY in what else 0.02
