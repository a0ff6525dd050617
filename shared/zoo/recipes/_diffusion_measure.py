"""What the small diffusion model can do: prompts followed, by factor, guidance and scheduler, as a factor CNN sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from shared.compendium.paths import atomic_path, sha256
from shared.zoo._cards import CARDS
from shared.zoo._models import load_model
from shared.zoo._pipelines import load_pipeline
from shared.zoo.recipes._diffusion import BATCH, FACTORS, IMAGES, NAME, SIDE, STEPS, UNTOLD, draw_world, sentence
from shared.zoo.recipes._factors import NAME as JUDGE
from shared.zoo.recipes._factors import answers

PROMPTS, STEPS_TAKEN, GUIDANCE = 120, 16, 3.0
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
    for guidance in (1.0, GUIDANCE, 6.0):
        right = followed(pipeline, judge, world, "DDIM", guidance)
        found |= {f"DDIM, guidance {guidance:g}: {name} as told": value for name, value in right.items()}
    for scheduler in list(SCHEDULERS)[1:]:
        right = followed(pipeline, judge, world, scheduler, GUIDANCE)
        found |= {f"{scheduler}, guidance {GUIDANCE:g}: {name} as told": value for name, value in right.items()}
    return found


def followed(pipeline: Any, judge: Any, world: dict[str, Tensor], scheduler: str, guidance: float) -> dict[str, float]:
    """Share of samples that show what the prompt tells, by factor, and of those that show all of it."""
    import diffusers

    told = [{name: FACTORS[name][world[name][i]] for name in FACTORS} for i in range(PROMPTS)]
    prompts = [sentence(one | {"word": None if one["word"] == "none" else one["word"]}) for one in told]
    pipeline.scheduler = getattr(diffusers, SCHEDULERS[scheduler]).from_config(pipeline.scheduler.config)
    noise = torch.randn(PROMPTS, pipeline.unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    shown = pipeline(
        prompts, latents=noise, num_inference_steps=STEPS_TAKEN, guidance_scale=guidance, output_type="pt"
    ).images
    seen = answers(judge, shown.float())
    right = {name: share(seen[name], world[name]) for name in FACTORS}
    return right | {"everything": share(torch.stack([seen[name] == world[name] for name in FACTORS]).all(0), True)}


def share(found: Tensor, truth: Any) -> float:
    return round((found == truth).double().mean().item(), 4)


def write_card(folder: Path, measured: dict[str, float]) -> None:
    """The provenance card, with the digests of the files and the numbers just measured."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    card = {
        "title": "Stable Diffusion in small: text to images of the shapes world, 32 pixels",
        "kind": "model",
        "task": "text-to-image",
        "stored": "shipped",
        "source": (
            f"Trained by Reprise on {IMAGES:,} images of one object each, {STEPS:,} steps of {BATCH} with captions "
            f"drawn anew and left out {UNTOLD:.0%} of the time; the text tower is clip-shapes', frozen"
        ),
        "licence": "MIT",
        "sha256": {file.relative_to(folder).as_posix(): sha256(file) for file in files},
        "recipe": "shared/zoo/recipes/_diffusion.py",
        "seed": 0,
        "notes": (
            "A StableDiffusionPipeline of diffusers in half precision: latents of 8 × 8 × 6, velocity prediction; "
            "zoo.load_pipeline reads it. Prompts tell any of the factors, “a large red circle on the left on a dark "
            "barred background with the text "
            + '"cat"”; an untold shape is “shape”. '
            + "; ".join(f"{name}: {', '.join(values)}" for name, values in FACTORS.items())
            + f". The world is cut down from the one that clip-shapes knows ({SIDE} pixels, one object, bars and "
            "squares always in the same place, words in the lower strip); “left” and “right” are words the text tower "
            f"never saw, read letter by letter. Measured by {JUDGE} on {PROMPTS} prompts that tell everything, "
            f"{STEPS_TAKEN} steps."
        ),
        "tested": [{"what": what, "measured": value, "tolerance": 0.02} for what, value in measured.items()],
    }
    with atomic_path(CARDS / f"{NAME}.yml") as temporary:
        temporary.write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=116), encoding="utf-8")
