"""Sampling step by step, so that a run can be stopped, kept, and gone on with under another prompt.

Works with diffusers' `StableDiffusionPipeline` and its kin: a U-Net on latents, one text encoder, an autoencoder.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_array, check_choice, check_range

SCHEDULERS = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
_PARTS = ("unet", "vae", "tokenizer", "text_encoder", "scheduler", "encode_prompt")


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
    pipeline : a diffusers pipeline with `unet`, `vae`, `tokenizer`, `text_encoder`. Its scheduler's configuration is
        taken over, the object itself isn't touched.
    scheduler : one of `SCHEDULERS`, or a scheduler of diffusers. It must evaluate the model once per step and draw no
        noise, and a run continued from a kept state must equal the whole run; else `ValueError`.
    steps : how often the U-Net is asked, at least 2.
    guidance : g; 0 ignores the prompt, 1 uses it plainly (as a pipeline does for every g up to 1).
    batch_size : latents per call of the U-Net and the decoder, default all at once.

    `timesteps` (steps,) count down; `log_snr` (steps,) is log(ᾱ / (1 − ᾱ)) at each, and counts up.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        scheduler: Any = "ddim",
        steps: int = 50,
        guidance: float = 7.5,
        batch_size: int | None = None,
    ) -> None:
        lacking = [part for part in _PARTS if not hasattr(pipeline, part)]
        if lacking:
            raise TypeError(f"pipeline is a {type(pipeline).__name__} without {', '.join(lacking)}")
        check_range("steps", steps, 2, pipeline.scheduler.config.num_train_timesteps)
        check_range("guidance", guidance, 0)
        _check_conditions(pipeline)
        self.pipeline = pipeline
        self.steps = steps
        self.guidance = guidance
        self.batch_size = batch_size
        self._blank = _check_scheduler(_as_scheduler(scheduler, pipeline.scheduler.config), steps)
        self._blank.set_timesteps(steps, device=self.device)
        self.timesteps = self._blank.timesteps.clone()
        self.alpha_bar = _alpha_bar(self._blank)
        _check_start(self._blank, self.alpha_bar)

    @cached_property
    def device(self) -> torch.device:
        return next(self.pipeline.unet.parameters()).device

    @cached_property
    def dtype(self) -> torch.dtype:
        return next(self.pipeline.unet.parameters()).dtype

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
        size : (h, w) of the latents; None means the U-Net's.

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
        side = self.pipeline.unet.config.sample_size  # an int, or height and width
        shape = (self.pipeline.unet.config.in_channels, *(size or ((side, side) if isinstance(side, int) else side)))
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
        states, clean = [state], []
        for index in range(state.index, stop):
            t = self.timesteps[index]
            scaled = scheduler.scale_model_input(x, t)
            predicted = self._predict(scaled, t, text, empty)
            if x0:
                clean.append(_clean(predicted, scaled, self.alpha_bar[index], scheduler.config.prediction_type))
            x = scheduler.step(predicted, t, x, return_dict=False)[0]
            if keep and index + 1 < stop:
                states.append(State(index + 1, x, copy.deepcopy(scheduler)))
        if stop > state.index:
            states.append(State(stop, x, scheduler))
        return Trajectory(tuple(states), torch.stack(clean) if clean else None)

    def start(self, noise: Tensor) -> State:
        """The state before the first step.

        Parameters
        ----------
        noise : unit Gaussian latents (B, C, h, w).

        Returns
        -------
        The `State`.
        """
        check_array("noise", noise, ("B", self.pipeline.unet.config.in_channels, "h", "w"))
        return State(0, noise * self._blank.init_noise_sigma, copy.deepcopy(self._blank))

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
        check_array("latents", latents, ("B", self.pipeline.unet.config.in_channels, "h", "w"))
        check_array("noise", noise, tuple(latents.shape))
        alpha = self.alpha_bar[index]
        x = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        scheduler = copy.deepcopy(self._blank)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(index)
        return State(index, (x / alpha.sqrt() if _grows(scheduler) else x).to(latents.dtype), scheduler)

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
            vae.decode(part.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]
            for part in latents.split(self.batch_size or len(latents))
        ]
        images = (torch.cat(parts).float().cpu() / 2 + 0.5).clamp(0, 1)
        return (images * 255).round() / 255

    def _predict(self, x: Tensor, t: Tensor, text: Tensor, empty: Tensor) -> Tensor:
        """The guided prediction; parts that guidance multiplies by zero aren't computed."""
        parts = []
        for rows in torch.arange(len(x)).split(self.batch_size or len(x)):
            told, untold = text[rows], empty[rows]
            if self.guidance in (0, 1):
                parts.append(self._unet(x[rows], t, told if self.guidance else untold))
                continue
            both = self._unet(torch.cat([x[rows], x[rows]]), t, torch.cat([untold, told]))
            without, with_ = both.chunk(2)
            parts.append(without + self.guidance * (with_ - without))
        return torch.cat(parts)

    def _unet(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        return self.pipeline.unet(x, t, encoder_hidden_states=text, return_dict=False)[0]

    def _embed(self, prompt: str | Sequence[str], negative: str | None, n: int) -> tuple[Tensor, Tensor]:
        """Embeddings (n, context, d) of the prompts and of what guidance leads away from."""
        prompts = [prompt] * n if isinstance(prompt, str) else list(prompt)
        if len(prompts) != n:
            raise ValueError(f"prompt has {len(prompts)} entries for {n} latents; give one, or one per latent")
        distinct = list(dict.fromkeys(prompts))
        for text in [*distinct, *([negative] if negative is not None else [])]:
            self._check_prompt(text)
        told, untold = self.pipeline.encode_prompt(distinct, self.device, 1, True, [negative or ""] * len(distinct))[:2]
        rows = [distinct.index(text) for text in prompts]
        return told[rows], untold[rows]

    def _check_prompt(self, text: str) -> None:
        """Not empty, and no longer than the text encoder reads: a pipeline would cut it without an error."""
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"prompt={text!r} is empty; guidance=0 samples without one")
        length = len(self.pipeline.tokenizer(text)["input_ids"])
        if length > self.context:
            raise ValueError(f"prompt={text!r} has {length} tokens; the model reads at most {self.context}")


# --- schedulers -------------------------------------------------------------------------------------------------
def _as_scheduler(scheduler: Any, config: Any) -> Any:
    """A scheduler of that name with the pipeline's noise levels, or a copy of the one given."""
    import diffusers

    if not isinstance(scheduler, str):
        if not hasattr(scheduler, "set_timesteps") or not hasattr(scheduler, "step"):
            raise TypeError(f"scheduler is a {type(scheduler).__name__}; give one of diffusers or a name")
        return copy.deepcopy(scheduler)
    name, options = SCHEDULERS[check_choice("scheduler", scheduler, SCHEDULERS)]
    return getattr(diffusers, name).from_config(config, **options)


def _check_scheduler(scheduler: Any, steps: int) -> Any:
    """Refuse what can't be stopped and gone on with: tried on random numbers in the model's place."""
    name = type(scheduler).__name__
    kind = getattr(scheduler.config, "prediction_type", None)
    if kind not in ("epsilon", "v_prediction", "sample"):
        raise ValueError(f"scheduler {name} predicts {kind!r}; accepted: epsilon, v_prediction, sample")
    scheduler.set_timesteps(steps)
    if len(scheduler.timesteps) != steps:
        raise ValueError(
            f"scheduler {name} evaluates the model {len(scheduler.timesteps)} times in {steps} steps; "
            f"accepted are those with one per step, as {', '.join(SCHEDULERS)}"
        )
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(steps, 1, 1, 2, 2, generator=generator)
    x = torch.randn(1, 1, 2, 2, generator=generator)

    def go(scheduler: Any, x: Tensor, first: int, last: int) -> tuple[Tensor, Any]:
        for i in range(first, last):
            scheduler.scale_model_input(x, scheduler.timesteps[i])
            x = scheduler.step(outputs[i], scheduler.timesteps[i], x, return_dict=False)[0]
        return x, scheduler

    with torch.random.fork_rng(devices=[]):
        whole, _ = go(copy.deepcopy(scheduler), x, 0, steps)
        half, middle = go(copy.deepcopy(scheduler), x, 0, steps // 2)
        first, second = (go(copy.deepcopy(middle), half, steps // 2, steps)[0] for _ in range(2))
    if not (torch.equal(whole, first) and torch.equal(first, second)):
        raise ValueError(
            f"scheduler {name} draws noise in its steps or keeps a hidden state, so that a run continued from the "
            f"middle differs from the whole; accepted: {', '.join(SCHEDULERS)} and others that are deterministic"
        )
    return scheduler


def _check_start(scheduler: Any, alpha_bar: Tensor) -> None:
    """At a terminal signal-to-noise ratio of zero the input is pure noise: the noise in it says nothing, so that a
    model that predicts it is divided by zero (Lin et al. 2023).
    """
    if scheduler.config.prediction_type == "epsilon" and float(alpha_bar[0]) <= 1e-12:
        raise ValueError(
            f"scheduler {type(scheduler).__name__} starts from pure noise (rescale_betas_zero_snr or the like) while "
            "the model predicts epsilon; take prediction_type='v_prediction' or a schedule with signal left"
        )


def _check_conditions(pipeline: Any) -> None:
    """Refuse U-Nets that want more than a prompt's states, which would fail deep inside (SDXL's size and text)."""
    config = pipeline.unet.config
    for name in ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type"):
        value = getattr(config, name, None)
        if value is not None:
            raise TypeError(
                f"pipeline: the U-Net of {type(pipeline).__name__} asks for more than one prompt ({name}={value!r}, "
                "as SDXL's); accepted are pipelines with one text encoder, as Stable Diffusion 1 and 2"
            )


def _alpha_bar(scheduler: Any) -> Tensor:
    """Share of the signal's variance ᾱ before each step, (steps,) float32."""
    if hasattr(scheduler, "sigmas"):
        return 1 / (1 + scheduler.sigmas[: len(scheduler.timesteps)].float() ** 2)
    return scheduler.alphas_cumprod.to(scheduler.timesteps.device)[scheduler.timesteps.long()].float()


def _grows(scheduler: Any) -> bool:
    """Whether latents carry noise of standard deviation σ on a clean part of its own size (Euler's convention)."""
    return hasattr(scheduler, "is_scale_input_called")


def _clean(predicted: Tensor, x: Tensor, alpha: Tensor, kind: str) -> Tensor:
    """The clean latents that a prediction amounts to; x = √ᾱ x₀ + √(1−ᾱ) ε."""
    signal, noise = alpha.sqrt().to(x.dtype), (1 - alpha).sqrt().to(x.dtype)
    if kind == "epsilon":
        return (x - noise * predicted) / signal
    return signal * x - noise * predicted if kind == "v_prediction" else predicted
