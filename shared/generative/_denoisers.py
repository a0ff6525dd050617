"""What a pipeline's model is asked, and what prompts become: one class for each kind of pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

Condition = tuple[Tensor, ...]  # of each row: states of the prompt, and a pooled one where the model asks for it

ACCEPTED = "Stable Diffusion 1 and 2, XL and 3, and FluxPipeline"


class UNetDenoiser:
    """Stable Diffusion 1 and 2: a U-Net on latents, one text encoder."""

    parts = ("unet", "vae", "tokenizer", "text_encoder", "scheduler", "encode_prompt")

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.check()

    @property
    def model(self) -> nn.Module:
        """The network that is asked in every step."""
        return self.pipeline.unet

    def check(self) -> None:
        """Refuse U-Nets that want more than a prompt's states, which would fail deep inside."""
        for name in ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type"):
            value = getattr(self.model.config, name, None)
            if value is not None:
                raise TypeError(
                    f"pipeline: the U-Net of {type(self.pipeline).__name__} asks for more than one prompt "
                    f"({name}={value!r}); accepted are {ACCEPTED}"
                )

    @property
    def channels(self) -> int:
        """Of the latents."""
        return self.model.config.in_channels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the latents that the model is made for."""
        side = self.model.config.sample_size  # an int, or height and width
        return (side, side) if isinstance(side, int) else tuple(side)

    @property
    def guidance(self) -> float:
        """What classifier-free guidance is where the user doesn't say."""
        return 7.5

    def levels(self, scheduler: Any, size: tuple[int, int]) -> dict[str, Any]:
        """Arguments of the scheduler's `set_timesteps` beyond their number, for latents of a size."""
        return {}

    def embed(self, prompts: Sequence[str], negative: str | None, device: torch.device) -> tuple[Condition, Condition]:
        """Of the prompts, and of what guidance leads away from."""
        blank = [negative or ""] * len(prompts)
        told, untold = self.pipeline.encode_prompt(list(prompts), device, 1, True, blank)[:2]
        return (told,), (untold,)

    def predict(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """What the model says of latents (B, C, h, w) before a step."""
        return self.model(x, t, encoder_hidden_states=condition[0], return_dict=False)[0]


class XLDenoiser(UNetDenoiser):
    """Stable Diffusion XL: two text encoders, and the image's size as a condition (uncropped, its own)."""

    parts = (*UNetDenoiser.parts, "text_encoder_2", "_get_add_time_ids")

    def check(self) -> None:
        """`UNetDenoiser` refuses what this one is for."""

    def embed(self, prompts: Sequence[str], negative: str | None, device: torch.device) -> tuple[Condition, Condition]:
        """Without a negative prompt zeros, where the pipeline is made so."""
        made = self.pipeline.encode_prompt(
            list(prompts), device=device, negative_prompt=None if negative is None else [negative] * len(prompts)
        )
        return (made[0], made[2]), (made[1], made[3])

    def predict(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """As a pipeline asks for images of the latents' own size."""
        states, pooled = condition
        size = tuple(side * self.pipeline.vae_scale_factor for side in x.shape[-2:])
        width = self.pipeline.text_encoder_2.config.projection_dim
        ids = self.pipeline._get_add_time_ids(size, (0, 0), size, states.dtype, text_encoder_projection_dim=width)
        more = {"text_embeds": pooled, "time_ids": ids.to(x.device).expand(len(x), -1)}
        return self.model(x, t, encoder_hidden_states=states, added_cond_kwargs=more, return_dict=False)[0]


class SD3Denoiser(UNetDenoiser):
    """Stable Diffusion 3: a transformer trained by flow matching, two CLIP encoders and T5 (which may be left out)."""

    parts = ("transformer", "vae", "tokenizer", "text_encoder", "text_encoder_2", "scheduler", "encode_prompt")

    @property
    def model(self) -> nn.Module:
        """The network that is asked in every step."""
        return self.pipeline.transformer

    def check(self) -> None:
        """Nothing that its configuration could ask for beyond the prompt."""

    def levels(self, scheduler: Any, size: tuple[int, int]) -> dict[str, Any]:
        """Where the scheduler shifts its levels by the image's size: by how much."""
        shifts = getattr(scheduler.config, "use_dynamic_shifting", False)  # Heun's flow has no such option
        return {"mu": shift_of(scheduler, size)} if shifts else {}

    def embed(self, prompts: Sequence[str], negative: str | None, device: torch.device) -> tuple[Condition, Condition]:
        """States of all encoders side by side, and the pooled ones of CLIP."""
        blank = [negative or ""] * len(prompts)
        made = self.pipeline.encode_prompt(list(prompts), None, None, device=device, negative_prompt=blank)
        return (made[0], made[2]), (made[1], made[3])

    def predict(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity ε − x₀."""
        given = {"encoder_hidden_states": condition[0], "pooled_projections": condition[1]}
        return self.model(hidden_states=x, timestep=t.to(x.device).expand(len(x)), return_dict=False, **given)[0]


class FluxDenoiser(SD3Denoiser):
    """FLUX.1: a transformer of 2 × 2 patches, trained by flow matching; CLIP gives the pooled state, T5 the others.

    The model may read the strength of a guidance that was distilled into it: a number beside the prompt, so that one
    pass gives what two gave its teacher. Classifier-free guidance of the sampler's own comes on top.
    """

    parts = (*SD3Denoiser.parts, "_prepare_latent_image_ids", "_pack_latents")

    def __init__(self, pipeline: Any) -> None:
        super().__init__(pipeline)
        self.distilled = 3.5  # as a pipeline has it

    @property
    def channels(self) -> int:
        """Of the latents; the model reads four pixels of each as one token."""
        return self.model.config.in_channels // 4

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the latents that the pipeline draws by default."""
        return (self.pipeline.default_sample_size,) * 2

    @property
    def guidance(self) -> float:
        """Plain: it was distilled."""
        return 1.0

    def levels(self, scheduler: Any, size: tuple[int, int]) -> dict[str, Any]:
        """Evenly from 1 to 1/steps, before any shift."""
        return {**super().levels(scheduler, size), "evenly": True}

    def embed(self, prompts: Sequence[str], negative: str | None, device: torch.device) -> tuple[Condition, Condition]:
        """States of T5 and the pooled one of CLIP."""
        told, untold = (
            self.pipeline.encode_prompt(given, None, device=device)[:2]
            for given in (list(prompts), [negative or ""] * len(prompts))
        )
        return told, untold

    def predict(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity ε − x₀, of latents packed for the model and unpacked again."""
        (n, channels, h, w), (states, pooled) = x.shape, condition
        strength = torch.full((n,), self.distilled, device=x.device) if self.model.config.guidance_embeds else None
        tokens = self.model(
            hidden_states=self.pipeline._pack_latents(x, n, channels, h, w),
            timestep=t.to(x).expand(n) / 1000,
            guidance=strength,
            pooled_projections=pooled,
            encoder_hidden_states=states,
            txt_ids=torch.zeros(states.shape[1], 3).to(states),
            img_ids=self.pipeline._prepare_latent_image_ids(n, h // 2, w // 2, x.device, states.dtype),
            return_dict=False,
        )[0]
        return tokens.view(n, h // 2, w // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


def shift_of(scheduler: Any, size: tuple[int, int]) -> float:
    """How far the noise levels of an image shift: a line through two counts of 2 × 2 patches of its latents."""
    (few, many), (low, high) = (
        [scheduler.config.get(name, default) for name, default in pair]
        for pair in (
            (("base_image_seq_len", 256), ("max_image_seq_len", 4096)),
            (("base_shift", 0.5), ("max_shift", 1.15)),
        )
    )
    return low + (high - low) * ((size[0] // 2) * (size[1] // 2) - few) / (many - few)


def denoiser_of(pipeline: Any) -> UNetDenoiser:
    """The pipeline's; `TypeError` by name for what can't be sampled here."""
    name = type(pipeline).__name__
    if hasattr(pipeline, "transformer") or name.startswith("Flux"):
        kind = FluxDenoiser if name == "FluxPipeline" else SD3Denoiser if "3Pipeline" in name else None
        if kind is None:
            raise TypeError(f"pipeline is a {name}; accepted are {ACCEPTED}")
    else:
        kind = XLDenoiser if hasattr(pipeline, "text_encoder_2") else UNetDenoiser
    lacking = [part for part in kind.parts if getattr(pipeline, part, None) is None]
    if lacking:
        raise TypeError(f"pipeline is a {name} without {', '.join(lacking)}")
    return kind(pipeline)


def unscaled(vae: Any, latents: Tensor) -> Tensor:
    """Latents as the decoder reads them."""
    config = vae.config
    if getattr(config, "latents_mean", None) is not None and getattr(config, "latents_std", None) is not None:
        mean, std = (torch.tensor(v).view(1, -1, 1, 1).to(latents) for v in (config.latents_mean, config.latents_std))
        return latents * std / config.scaling_factor + mean
    return latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
