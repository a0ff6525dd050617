"""The small text-to-image diffusion model: a `StableDiffusionPipeline` on a cut-down shapes world of 32 pixels.

A convolutional autoencoder makes latents of 8 × 8, a U-Net with cross-attention learns to denoise them given captions,
which the text tower of the zoo's small CLIP reads, frozen.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, l1_loss, mse_loss
from tqdm.auto import tqdm

from shared.compendium.paths import atomic_path, cache_dir
from shared.worlds import BACKGROUNDS, COLOURS, SHADES, SHAPES, place_words, shapes_world
from shared.zoo._models import SHIPPED, load_model
from shared.zoo.recipes._train import one_thread
from shared.zoo.recipes._write import write_weights

NAME = "diffusion-shapes"
SIDE, CELL, CHANNELS = 32, 4, 6  # pixels; pixels per latent; channels of the latents
FACTORS: dict[str, tuple[str, ...]] = {
    "shape": ("circle", "square", "triangle", "star", "cross", "ring"),
    "colour": ("red", "yellow", "green", "blue", "purple"),
    "size": ("small", "large"),
    "side": ("left", "right"),
    "shade": ("dark", "light"),
    "background": ("flat", "barred", "chequered"),
    "word": ("none", "cat", "dog", "sun", "key"),
}
WORDS = FACTORS["word"][1:]
RADII = ((0.16, 0.18), (0.25, 0.28))  # of the image's side
PHASE = 12  # seed of the backgrounds: their bars and squares lie alike in all images, on the latents' grid
MARGIN = 0.08  # objects keep this far from the middle, so that left and right are clear
TEXT_TOP = 48 / 64  # words stand in the strip below this
WORD_RATE, TOLD, SHAPE_TOLD, WORD_TOLD = 0.45, 0.6, 0.8, 0.92
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


# --- data -------------------------------------------------------------------------------------------------------
def draw_world(n: int, seed: int, values: dict[str, Tensor] | None = None) -> dict[str, Any]:
    """`n` images (n, 3, 32, 32) in [0, 1], and each factor's value (n,), numbered as in `FACTORS`.

    values : factors to set, likewise numbered. Rendered at twice the size and averaged, so that edges are soft; words
    stand at the lower edge, on the latents' grid.
    """
    generator = torch.Generator().manual_seed(seed)
    found = {name: torch.randint(len(known), (n,), generator=generator) for name, known in FACTORS.items()}
    written = torch.rand(n, generator=generator) < WORD_RATE
    found["word"] = torch.where(written, 1 + torch.randint(len(WORDS), (n,), generator=generator), 0)
    found |= values or {}
    low, high = torch.tensor(RADII)[found["size"]].unbind(1)
    u = torch.rand(3, n, generator=generator)
    radius = low + (high - low) * u[0]
    x = radius + (0.5 - MARGIN - radius) * u[1]
    y = radius + (TEXT_TOP - 2 * radius) * u[2]
    words = place_words(found["word"], WORDS, generator=generator, size=2 * SIDE, grid=2 * CELL)
    words["word_y"] = torch.full((n,), TEXT_TOP * 2 * SIDE / (2 * SIDE - 14))  # a plate is 14 pixels high
    given = {name: [FACTORS[name][i] for i in found[name]] for name in ("shape", "colour", "shade", "background")}
    world = shapes_world(
        n,
        generator=generator,
        size=2 * SIDE,
        words=WORDS,
        masks=False,
        values={
            **{name: _numbers(name, given[name]) for name in ("shape", "colour", "shade", "background")},
            "radius": radius,
            "x": torch.where(found["side"] == 0, x, 1 - x),
            "y": y,
            "texture": "plain",
            "seed": PHASE,
            **words,
        },
    )
    return found | {"images": avg_pool2d(world.images, 2)}


def _numbers(name: str, values: Sequence[str]) -> Tensor:
    """A factor's values as the shapes world numbers them."""
    known = {"shape": SHAPES, "colour": tuple(COLOURS), "shade": SHADES, "background": BACKGROUNDS}[name]
    return torch.tensor([known.index(value) for value in values])


# --- captions ---------------------------------------------------------------------------------------------------
TOLD_VALUES = {name: (None, *(value for value in known if value != "none")) for name, known in FACTORS.items()}


def sentence(told: dict[str, str | None]) -> str:
    """What a caption says of these factors: "a large red circle on the left on a dark background with the text "cat"".

    Factors that are None or missing aren't told; an untold shape is "shape".
    """
    words = [word for word in (told.get("size"), told.get("colour"), told.get("shape") or "shape") if word]
    said = "a " + " ".join(words)
    if told.get("side"):
        said += f" on the {told['side']}"
    ground = " ".join(word for word in (told.get("shade"), told.get("background")) if word)
    if ground:
        said += f" on a {ground} background"
    if told.get("word"):
        said += f' with the text "{told["word"]}"'
    return said


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

    clip = load_model("clip-shapes")
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
    kept: Path | None = None, seed: int = 0, say: Callable[[int, float], None] = lambda step, loss: None,
) -> nn.Module:  # fmt: skip
    """The averaged U-Net, trained to predict velocity; goes on from the checkpoint in `kept` if there is one.

    latents (n, 4, 8, 8) of images whose factors are `values`; text (captions, context, d) embeddings of
    `all_sentences()`, `empty` (context, d) that of no caption. `say` hears of the loss at times.
    """
    from diffusers import DDIMScheduler

    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = build_unet(text.shape[-1]).to(memory_format=torch.channels_last).train()
        average = copy.deepcopy(unet).requires_grad_(False).eval()
        optimizer = torch.optim.AdamW(unet.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        scheduler = DDIMScheduler(**SCHEDULE)
        first = _resume(kept, unet, average, optimizer) if kept else 0
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
                say(step + 1, total / 100)
                total = 0.0
            if kept and (step + 1) % KEPT == 0:
                _keep(kept, unet, average, optimizer, step + 1)
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


def _keep(path: Path, unet: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Weights, their average and Adam's moments, as safetensors."""
    tensors = {f"unet.{key}": value for key, value in unet.state_dict().items()}
    tensors |= {f"average.{key}": value for key, value in average.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{key}": value for key, value in state.items()}
    with atomic_path(path) as temporary:
        save_file({key: value.contiguous() for key, value in tensors.items()}, temporary, metadata={"step": str(step)})


def _resume(path: Path, unet: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load what `_keep` wrote; the step to go on with, 0 without a file."""
    if not path.is_file():
        return 0
    tensors = load_file(path)
    for name, model in (("unet.", unet), ("average.", average)):
        model.load_state_dict({k.removeprefix(name): value for k, value in tensors.items() if k.startswith(name)})
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, i, name = key.split(".")
            if value.ndim == 4:  # as the weights lie in memory: the fused step pairs them element by element
                value = value.contiguous(memory_format=torch.channels_last)
            state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


# --- writing ----------------------------------------------------------------------------------------------------
def make_diffusion() -> None:
    """Train, measure, and write the pipeline and its card; a killed run goes on where it was."""
    from shared.zoo.recipes._diffusion_measure import measure, write_card

    kept_vae, kept = (cache_dir() / f"{NAME}-{part}.safetensors" for part in ("autoencoder", "training"))
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
    unet = train_unet(latents, world, text, embed_sentences(tower, tokenizer, [""])[0], kept=kept)
    folder = write_files(vae, unet, tower, tokenizer)
    write_card(folder, measure(folder))
    for path in (kept_vae, kept):
        path.unlink(missing_ok=True)


def write_files(vae: nn.Module, unet: nn.Module, tower: nn.Module, tokenizer: Any, folder: Path = SHIPPED) -> Path:
    """The pipeline in the hub's layout, in half precision; returns the folder."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=copy.deepcopy(vae).half(), text_encoder=copy.deepcopy(tower).half(), tokenizer=tokenizer,
        unet=copy.deepcopy(unet).half(), scheduler=DDIMScheduler(**SCHEDULE), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder / NAME, safe_serialization=True)
    return folder / NAME
