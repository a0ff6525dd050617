"""Sampling step by step, so that a run can be stopped, kept, and gone on with under another prompt.

Works with diffusers' pipelines of Stable Diffusion 1 and 2, XL and 3 and their kin, and of FLUX.1.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_array, check_range
from shared.generative._denoisers import Condition, FluxDenoiser, denoiser_of, unscaled
from shared.generative._schedulers import (
    alpha_bar,
    as_scheduler,
    check_scheduler,
    check_start,
    clean,
    noised,
    prediction_of,
    scaled_input,
    set_levels,
)


@dataclass(frozen=True)
class State:
    """A run before a step. A multistep scheduler uses earlier predictions, so its state belongs to the run too.

    Parameters
    ----------
    index : of the step.
    latents : (B, C, h, w) in the scheduler's own scale.
    scheduler : with its history.
    """

    index: int
    latents: Tensor = field(repr=False)
    scheduler: Any = field(repr=False)


@dataclass(frozen=True)
class Trajectory:
    """A finished part of a run.

    Parameters
    ----------
    states : those kept, the first and the last at least.
    x0 : each step's prediction of the clean latents (steps, B, C, h, w), if asked for.
    """

    states: tuple[State, ...]
    x0: Tensor | None = field(default=None, repr=False)

    @property
    def latents(self) -> Tensor:
        """Latents at the end (B, C, h, w)."""
        return self.states[-1].latents

    def at(self, index: int) -> State:
        """The state before a step.

        Parameters
        ----------
        index : of the step.

        Returns
        -------
        The `State`.

        Raises
        ------
        ValueError
            If it wasn't kept.
        """
        known = {state.index: state for state in self.states}
        if index not in known:
            raise ValueError(f"index={index!r} was not kept; kept: {', '.join(map(str, known))} (run with keep=True)")
        return known[index]


class Sampler:
    """A pipeline's denoising loop with `steps` steps and classifier-free guidance ε∅ + g (ε_P − ε∅).

    Parameters
    ----------
    pipeline : a diffusers pipeline of Stable Diffusion 1 or 2 (a U-Net and one text encoder), XL or 3, or a
        `FluxPipeline`. Its scheduler's configuration is taken over, the object itself isn't touched.
    scheduler : one of `SCHEDULERS`, or a scheduler of diffusers; by default "ddim", or the pipeline's own where its
        model was trained by flow matching (3, FLUX), which takes no other. It must evaluate the model once per step and
        draw no noise, and a run continued from a kept state must equal the whole run; else `ValueError`.
    steps : how often the model is asked, at least 2.
    guidance : g; 0 ignores the prompt, 1 uses it plainly (as a pipeline does for every g up to 1). None is 7.5, for
        FLUX 1, whose pipeline calls g `true_cfg_scale`.
    distilled : strength of the guidance distilled into a FLUX model, which reads it as a number (`guidance_scale` of
        its pipeline).
    size : (h, w) of the latents; None means the model's. Some flows shift their noise levels by it.
    batch_size : latents per call of the model and the decoder, default all at once.

    `timesteps` (steps,) count down; `log_snr` (steps,) is log(ᾱ / (1 − ᾱ)) at each, and counts up.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        scheduler: Any = None,
        steps: int = 50,
        guidance: float | None = None,
        distilled: float | None = None,
        size: tuple[int, int] | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._denoiser = denoiser_of(pipeline)
        self.guidance = self._denoiser.guidance if guidance is None else guidance
        check_range("steps", steps, 2, pipeline.scheduler.config.num_train_timesteps)
        check_range("guidance", self.guidance, 0)
        if distilled is not None:
            self._distil(distilled)
        self.pipeline = pipeline
        self.steps = steps
        self.size = self._denoiser.size if size is None else tuple(size)
        self.batch_size = batch_size
        self._blank = as_scheduler(scheduler, pipeline.scheduler)
        levels = self._denoiser.levels(self._blank, self.size)
        self._by_size = "mu" in levels
        check_scheduler(self._blank, steps, **levels)
        set_levels(self._blank, steps, device=self.device, **levels)
        self.timesteps = self._blank.timesteps.clone()
        self.alpha_bar = alpha_bar(self._blank)
        check_start(self._blank, self.alpha_bar)

    @cached_property
    def device(self) -> torch.device:
        return next(self._denoiser.model.parameters()).device

    @cached_property
    def dtype(self) -> torch.dtype:
        return next(self._denoiser.model.parameters()).dtype

    @property
    def log_snr(self) -> Tensor:
        return (self.alpha_bar / (1 - self.alpha_bar)).log()

    @property
    def context(self) -> int:
        """Tokens that the text encoder reads."""
        return self.pipeline.tokenizer.model_max_length

    def noise(self, seeds: Sequence[int], *, size: tuple[int, int] | None = None) -> Tensor:
        """Unit Gaussian latents, each from its own seed on the CPU.

        Parameters
        ----------
        seeds : B of them.
        size : (h, w) of the latents; None means the sampler's.

        Returns
        -------
        Latents (B, C, h, w), of the pipeline's device and dtype.

        Raises
        ------
        ValueError
            Without seeds.
        """
        if len(seeds) == 0:
            raise ValueError("seeds is empty; at least one is needed")
        shape = (self._denoiser.channels, *(size or self.size))
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        return torch.stack(drawn).to(self.device, self.dtype)

    @torch.no_grad()
    def run(
        self,
        prompt: str | Sequence[str],
        start: Tensor | State,
        *,
        stop: int | None = None,
        negative: str | None = None,
        keep: bool = False,
        x0: bool = False,
    ) -> Trajectory:
        """Denoise under a prompt.

        Parameters
        ----------
        prompt : one, or one per latent.
        start : unit noise (B, C, h, w), or a state to go on from.
        stop : before which step to stop; None means the end.
        negative : takes the empty prompt's place.
        keep : keep all states in between.
        x0 : keep each step's prediction of the clean latents.

        Returns
        -------
        A `Trajectory`.

        Raises
        ------
        ValueError
            For an empty or too long prompt, and for a `stop` out of range.
        """
        state = self.start(start) if isinstance(start, Tensor) else start
        stop = self.steps if stop is None else stop
        check_range("stop", stop, state.index, self.steps)
        scheduler, x = copy.deepcopy(state.scheduler), state.latents
        text, empty = self._embed(prompt, negative, len(x))
        states, cleaned = [state], []
        for index in range(state.index, stop):
            t = self.timesteps[index]
            scaled = scaled_input(scheduler, x, t)
            predicted = self._predict(scaled, t, text, empty)
            if x0:
                cleaned.append(clean(predicted, scaled, self.alpha_bar[index], prediction_of(scheduler)))
            x = scheduler.step(predicted, t, x, return_dict=False)[0]
            if keep and index + 1 < stop:
                states.append(State(index + 1, x, copy.deepcopy(scheduler)))
        if stop > state.index:
            states.append(State(stop, x, scheduler))
        return Trajectory(tuple(states), torch.stack(cleaned) if cleaned else None)

    def start(self, noise: Tensor) -> State:
        """The state before the first step.

        Parameters
        ----------
        noise : unit Gaussian latents (B, C, h, w).

        Returns
        -------
        The `State`.
        """
        self._check_latents("noise", noise)
        noise = noise.to(self.device, self.dtype)
        return State(0, noise * getattr(self._blank, "init_noise_sigma", 1.0), copy.deepcopy(self._blank))

    def switch(
        self, base: Trajectory, index: int, prompt: str | Sequence[str], *, negative: str | None = None
    ) -> Trajectory:
        """Go on with a kept run under another prompt.

        Parameters
        ----------
        base : the run, with its states kept.
        index : before which step to switch; 0 is a run of its own, `steps` none.
        prompt : the other one, or one per latent.
        negative : takes the empty prompt's place.

        Returns
        -------
        A `Trajectory` from the switch on.

        Raises
        ------
        ValueError
            For a step out of range or not kept.
        """
        check_range("index", index, 0, self.steps)
        return self.run(prompt, base.at(index), negative=negative)

    def noised(self, latents: Tensor, noise: Tensor, index: int) -> State:
        """Clean latents with noise as before a step: where SDEdit (Meng et al. 2022) starts.

        Parameters
        ----------
        latents : clean (B, C, h, w).
        noise : unit Gaussian, of the same shape.
        index : of the step.

        Returns
        -------
        The `State`.

        Raises
        ------
        ValueError
            For a step out of range or other shapes.
        """
        check_range("index", index, 0, self.steps - 1)
        self._check_latents("latents", latents)
        check_array("noise", noise, tuple(latents.shape))
        scheduler = copy.deepcopy(self._blank)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(index)
        x = noised(scheduler, latents, noise, self.alpha_bar[index])
        return State(index, x.to(latents.dtype), scheduler)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images of clean latents, in the 256 levels of 8 bits that any judge outside would see.

        Parameters
        ----------
        latents : (B, C, h, w).

        Returns
        -------
        (B, 3, H, W) in [0, 1], on the CPU.
        """
        vae = self.pipeline.vae
        parts = [
            vae.decode(unscaled(vae, part.to(vae.dtype)), return_dict=False)[0]
            for part in latents.split(self.batch_size or len(latents))
        ]
        images = (torch.cat(parts).float().cpu() / 2 + 0.5).clamp(0, 1)
        return (images * 255).round() / 255

    def _distil(self, strength: float) -> None:
        """Hand the model the strength of the guidance distilled into it."""
        if not getattr(self._denoiser.model.config, "guidance_embeds", False):
            raise ValueError(f"distilled={strength!r}: no guidance was distilled into this model; leave it None")
        check_range("distilled", strength, 0)
        self._denoiser.distilled = strength

    def _check_latents(self, name: str, latents: Tensor) -> None:
        check_array(name, latents, ("B", self._denoiser.channels, "h", "w"))
        size = tuple(latents.shape[-2:])
        if self._by_size and size != self.size:
            raise ValueError(
                f"{name} is of {size}, but the noise levels are those of size={self.size}; make a sampler of its size"
            )
        if isinstance(self._denoiser, FluxDenoiser) and any(side % 2 for side in size):
            raise ValueError(f"{name} is of {size}; FLUX reads patches of 2 × 2, so both sides must be even")

    def _predict(self, x: Tensor, t: Tensor, text: Condition, empty: Condition) -> Tensor:
        """The guided prediction; parts that guidance multiplies by zero aren't computed."""
        parts = []
        for rows in torch.arange(len(x)).split(self.batch_size or len(x)):
            told, untold = tuple(c[rows] for c in text), tuple(c[rows] for c in empty)
            if self.guidance in (0, 1):
                parts.append(self._denoiser.predict(x[rows], t, told if self.guidance else untold))
                continue
            pair = tuple(torch.cat([a, b]) for a, b in zip(untold, told))
            both = self._denoiser.predict(torch.cat([x[rows], x[rows]]), t, pair)
            without, with_ = both.chunk(2)
            parts.append(without + self.guidance * (with_ - without))
        return torch.cat(parts)

    def _embed(self, prompt: str | Sequence[str], negative: str | None, n: int) -> tuple[Condition, Condition]:
        """Of the prompts and of what guidance leads away from."""
        prompts = [prompt] * n if isinstance(prompt, str) else list(prompt)
        if len(prompts) != n:
            raise ValueError(f"prompt has {len(prompts)} entries for {n} latents; give one, or one per latent")
        distinct = list(dict.fromkeys(prompts))
        for text in [*distinct, *([negative] if negative is not None else [])]:
            self._check_prompt(text)
        told, untold = self._denoiser.embed(distinct, negative, self.device)
        rows = [distinct.index(text) for text in prompts]
        return tuple(c[rows] for c in told), tuple(c[rows] for c in untold)

    def _check_prompt(self, text: str) -> None:
        """Not empty, and no longer than the text encoder reads: a pipeline would cut it without an error."""
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"prompt={text!r} is empty; guidance=0 samples without one")
        length = len(self.pipeline.tokenizer(text)["input_ids"])
        if length > self.context:
            raise ValueError(f"prompt={text!r} has {length} tokens; the model reads at most {self.context}")
