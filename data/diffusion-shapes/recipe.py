"""The small text-to-image diffusion model: a `StableDiffusionPipeline` on a cut-down shapes world of 32 pixels.

A convolutional autoencoder makes latents of 8 × 8, a U-Net with cross-attention learns to denoise them given captions,
which the text tower of the zoo's small CLIP reads, frozen. Measured by guidance and scheduler: prompts followed, factor
by factor, and quality, as a factor CNN sees them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss
from tqdm.auto import tqdm

from shared import zoo
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import ship, write_weights
from shared.zoo.recipes._small_world import CELL, FACTORS, SIDE, answers, draw_world, sentence
from shared.zoo.recipes._train import keep, one_thread, resume

NAME, JUDGE = "diffusion-shapes", "factors-shapes"
CHANNELS = 6  # of the latents
TOLD, SHAPE_TOLD, WORD_TOLD = 0.6, 0.8, 0.92
UNTOLD = 0.1  # captions left out, for guidance

IMAGES = 30_000
VAE_CHANNELS, VAE_STEPS, VAE_BATCH, VAE_LR, KL = (16, 32, 64), 2000, 32, 2e-3, 1e-6
UNET_CHANNELS = (64, 112)
STEPS, BATCH, LR, WARM_UP, EMA = 18_000, 32, 6e-4, 500, 0.9995
KEPT = 1000  # steps between checkpoints
SCHEDULE = {
    "beta_start": 0.00085, "beta_end": 0.02, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "prediction_type": "v_prediction", "timestep_spacing": "trailing", "clip_sample": False, "set_alpha_to_one": True,
    "steps_offset": 1,
}  # fmt: skip

PROMPTS, STEPS_TAKEN, GUIDANCE = 120, 16, 3.0
SAMPLES, RENDERS = 500, 4000  # for the Fréchet distance
QUALITY = "Fréchet distance to renders"
SCHEDULERS = {"DDIM": "DDIMScheduler", "Euler": "EulerDiscreteScheduler", "DPM++": "DPMSolverMultistepScheduler"}


@recipe(NAME)
def make(folder: Path) -> None:
    """Train, measure, and write the pipeline and its card; a killed run goes on where it was."""
    ship(
        folder,
        train=train,
        write=write_files,
        measure=measure,
        title="Stable Diffusion in small: text to images of the shapes world, 32 pixels",
        task="text-to-image",
        source=(
            f"Trained by Reprise on {IMAGES:,} images of one object each, {STEPS:,} steps of {BATCH} with captions "
            f"drawn anew and left out {UNTOLD:.0%} of the time; the text tower is clip-shapes', frozen"
        ),
        made_from=["clip-shapes", JUDGE],
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


def train(kept: Path) -> tuple[nn.Module, nn.Module, nn.Module, Any]:
    """Autoencoder, U-Net, text tower and tokenizer; `kept` is the folder for checkpoints."""
    kept_vae = kept / "autoencoder.safetensors"
    if kept_vae.is_file():
        vae = build_autoencoder()
        vae.load_state_dict(load_file(kept_vae))
        vae = vae.eval().requires_grad_(False)
    else:
        vae = train_autoencoder()
        write_weights(kept_vae, vae)
    tower, tokenizer = text_tower()
    text = embed_sentences(tower, tokenizer, all_sentences()).half()
    world = draw_world(IMAGES, 3)
    latents = encode(vae, world.pop("images"))
    empty = embed_sentences(tower, tokenizer, [""])[0]
    unet = train_unet(latents, world, text, empty, kept=kept / "unet.safetensors")
    return vae, unet, tower, tokenizer


def write_files(made: tuple[nn.Module, nn.Module, nn.Module, Any], folder: Path) -> None:
    """The pipeline in the hub's layout, in half precision."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    vae, unet, tower, tokenizer = made
    pipeline = StableDiffusionPipeline(
        vae=copy.deepcopy(vae).half(), text_encoder=copy.deepcopy(tower).half(), tokenizer=tokenizer,
        unet=copy.deepcopy(unet).half(), scheduler=DDIMScheduler(**SCHEDULE), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder, safe_serialization=True)


# --- captions ---------------------------------------------------------------------------------------------------
TOLD_VALUES = {name: (None, *(value for value in known if value != "none")) for name, known in FACTORS.items()}


def all_sentences() -> list[str]:
    """Every caption, the last factor counting fastest; `sentence_numbers` counts alike."""
    return [sentence(dict(zip(TOLD_VALUES, values))) for values in product(*TOLD_VALUES.values())]


def sentence_numbers(values: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """Numbers (n,) of captions that tell some of the images' factors, drawn anew."""
    n = len(values["shape"])
    rates = {"shape": SHAPE_TOLD, "word": WORD_TOLD}
    number = torch.zeros(n, dtype=torch.long)
    for name, known in TOLD_VALUES.items():
        told = torch.rand(n, generator=generator) < rates.get(name, TOLD)
        shift = 0 if name == "word" else 1  # "none" is never said
        number = number * len(known) + torch.where(told, values[name] + shift, 0)
    return number


@torch.no_grad()
def embed_sentences(text_encoder: nn.Module, tokenizer: Any, texts: Sequence[str], batch: int = 500) -> Tensor:
    """The text tower's hidden states (n, context, d), padded to the context as the pipeline pads."""
    found = []
    for start in range(0, len(texts), batch):
        part = list(texts[start : start + batch])
        ids = tokenizer(part, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
        found.append(text_encoder(ids.input_ids)[0])
    return torch.cat(found)


def text_tower() -> tuple[nn.Module, Any]:
    """The small CLIP's text tower, rounded to half precision as it is stored, and its tokenizer."""
    from transformers import CLIPTextModel

    clip = zoo.load_model("clip-shapes")
    tower = CLIPTextModel(clip.model.config.text_config)
    tower.load_state_dict(_text_state(clip.model, tower))
    return tower.half().float().eval().requires_grad_(False), clip.tokenizer


def _text_state(clip: nn.Module, tower: nn.Module) -> dict[str, Tensor]:
    """The text tower's weights under the names that transformers' class of today gives them."""
    wanted = tower.state_dict()
    prefix = "text_model." if any(key.startswith("text_model.") for key in wanted) else ""
    return {prefix + key: value for key, value in clip.text_model.state_dict().items() if prefix + key in wanted}


# --- autoencoder ------------------------------------------------------------------------------------------------
def build_autoencoder() -> nn.Module:
    """An `AutoencoderKL` of images of 32 × 32, latents of 8 × 8."""
    from diffusers import AutoencoderKL

    levels = len(VAE_CHANNELS)
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=CHANNELS, block_out_channels=VAE_CHANNELS, layers_per_block=1,
        down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels,
        norm_num_groups=8, sample_size=SIDE, mid_block_add_attention=False, scaling_factor=1.0,
    )  # fmt: skip


def train_autoencoder(steps: int = VAE_STEPS, seed: int = 0) -> nn.Module:
    """The autoencoder, trained on absolute and squared error; latents have unit variance."""
    images = draw_world(8000, 1)["images"]
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = build_autoencoder().to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(vae.parameters(), lr=VAE_LR, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=VAE_LR, total_steps=steps, pct_start=0.1)
        for _ in tqdm(range(steps), leave=False, mininterval=20):
            x = images[torch.randint(len(images), (VAE_BATCH,))] * 2 - 1
            x = x.contiguous(memory_format=torch.channels_last)
            posterior = vae.encode(x).latent_dist
            y = vae.decode(posterior.sample()).sample
            loss = l1_loss(y, x) + mse_loss(y, x) + KL * posterior.kl().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        vae = vae.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
        return standardise_(vae, encode(vae, images[:4000]))


@torch.no_grad()
def encode(vae: nn.Module, images: Tensor, batch: int = 250) -> Tensor:
    """Latents (n, c, h, w) of images in [0, 1]: the posterior's means."""
    return torch.cat([vae.encode(part * 2 - 1).latent_dist.mean for part in images.split(batch)])


@torch.no_grad()
def standardise_(vae: nn.Module, latents: Tensor) -> nn.Module:
    """Shift and scale each channel of the latents to mean 0 and variance 1, in the 1 × 1 convolutions about them.

    A pipeline has one scaling factor for all channels; the decoder undoes what the encoder now does.
    """
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    c = len(mean)
    into, out = vae.quant_conv, vae.post_quant_conv
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= std[None, :, None, None]
    into.weight[:c] /= std[:, None, None, None]
    into.bias[:c] = (into.bias[:c] - mean) / std
    into.bias[c:] -= 2 * std.log()  # the posterior's log-variance
    return vae


# --- denoiser ---------------------------------------------------------------------------------------------------
def build_unet(width: int) -> nn.Module:
    """A `UNet2DConditionModel` on latents of 8 × 8 that attends to text at 4 × 4."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIDE // CELL, in_channels=CHANNELS, out_channels=CHANNELS, block_out_channels=UNET_CHANNELS,
        layers_per_block=1, down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"], cross_attention_dim=width, attention_head_dim=4,
        norm_num_groups=8,
    )  # fmt: skip


def rate(step: int, steps: int) -> float:
    """Share of the learning rate: a linear rise, constant, a linear fall to zero over the last 40 %."""
    return min((step + 1) / WARM_UP, 1.0, (steps - step) / (0.4 * steps))


def train_unet(
    latents: Tensor, values: dict[str, Tensor], text: Tensor, empty: Tensor, steps: int = STEPS,
    kept: Path | None = None, seed: int = 0,
) -> nn.Module:  # fmt: skip
    """The averaged U-Net, trained to predict velocity; goes on from the checkpoint in `kept` if there is one.

    latents (n, 4, 8, 8) of images whose factors are `values`; text (captions, context, d) embeddings of
    `all_sentences()`, `empty` (context, d) that of no caption.
    """
    from diffusers import DDIMScheduler

    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = build_unet(text.shape[-1]).to(memory_format=torch.channels_last).train()
        average = copy.deepcopy(unet).requires_grad_(False).eval()
        optimizer = torch.optim.AdamW(unet.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        scheduler = DDIMScheduler(**SCHEDULE)
        first = resume(kept, {"unet": unet, "average": average}, optimizer) if kept else 0
        total = 0.0
        for step in (bar := tqdm(range(first, steps), leave=False, initial=first, total=steps, mininterval=20)):
            generator = torch.Generator().manual_seed(1_000_000 + step)
            for group in optimizer.param_groups:
                group["lr"] = LR * rate(step, steps)
            loss = _loss(unet, scheduler, latents, values, text, empty, generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            torch._foreach_lerp_(
                list(average.parameters()), list(unet.parameters()), 1 - min(EMA, (step + 1) / (step + 10))
            )
            total += loss.item()
            if (step + 1) % 100 == 0:
                bar.set_postfix(loss=f"{total / 100:.4f}")
                total = 0.0
            if kept and (step + 1) % KEPT == 0:
                keep(kept, {"unet": unet, "average": average}, optimizer, step + 1)
    return average.to(memory_format=torch.contiguous_format)


def _loss(
    unet: nn.Module, scheduler: Any, latents: Tensor, values: dict[str, Tensor], text: Tensor, empty: Tensor,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    rows = torch.randint(len(latents), (BATCH,), generator=generator)
    clean = latents[rows].contiguous(memory_format=torch.channels_last)
    said = text[sentence_numbers({name: value[rows] for name, value in values.items()}, generator)].float()
    untold = torch.rand(BATCH, 1, 1, generator=generator) < UNTOLD
    said = torch.where(untold, empty, said)
    noise = torch.randn(clean.shape, generator=generator)
    t = torch.randint(scheduler.config.num_train_timesteps, (BATCH,), generator=generator)
    noisy = scheduler.add_noise(clean, noise, t)
    return mse_loss(unet(noisy, t, said).sample, scheduler.get_velocity(clean, noise, t))


# --- measuring --------------------------------------------------------------------------------------------------
@torch.no_grad()
def measure(folder: Path) -> dict[str, float]:
    """The card's numbers, on prompts that tell every factor, and on the autoencoder's reconstructions."""
    pipeline, judge = zoo.load_pipeline(str(folder)), zoo.load_model(JUDGE).model
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


def slack(what: str, value: float) -> float:
    """Two points of a share, a twentieth of a distance."""
    return max(0.02, round(0.05 * value, 2)) if QUALITY in what else 0.02
