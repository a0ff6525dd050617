"""Schedulers that a run can be stopped and gone on with, and what their noise levels say."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_choice

SCHEDULERS = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler is of flow matching: x = (1 − σ) x₀ + σ ε, and the model predicts ε − x₀."""
    return "FlowMatch" in type(scheduler).__name__


def as_scheduler(scheduler: Any, own: Any) -> Any:
    """A scheduler of that name with the noise levels of the pipeline's own, or a copy of the one given.

    None is DDIM, or the pipeline's own where its model was trained by flow matching.
    """
    import diffusers

    if scheduler is None:
        scheduler = own if is_flow(own) else "ddim"
    if not isinstance(scheduler, str):
        if not hasattr(scheduler, "set_timesteps") or not hasattr(scheduler, "step"):
            raise TypeError(f"scheduler is a {type(scheduler).__name__}; give one of diffusers or a name")
        if is_flow(scheduler) != is_flow(own):
            raise ValueError(
                f"scheduler {type(scheduler).__name__} predicts {prediction_of(scheduler)!r}, the pipeline's model "
                f"{prediction_of(own)!r}; give one of the same kind"
            )
        return copy.deepcopy(scheduler)
    name, options = SCHEDULERS[check_choice("scheduler", scheduler, SCHEDULERS)]
    if is_flow(own):
        raise ValueError(
            f"scheduler={scheduler!r} is for models that predict noise; this one was trained by flow matching: "
            f"leave it to the pipeline's {type(own).__name__}"
        )
    return getattr(diffusers, name).from_config(own.config, **options)


def set_levels(
    scheduler: Any, steps: int, *, evenly: bool = False, mu: float | None = None, device: torch.device | None = None
) -> None:
    """Noise levels of a run: the scheduler's own, or evenly from 1 to 1/steps; a flow's shifted by `mu`."""
    given = {} if mu is None else {"mu": mu}
    if evenly and not getattr(scheduler.config, "use_flow_sigmas", False):
        given["sigmas"] = np.linspace(1.0, 1 / steps, steps)
    if foreign := given.keys() - inspect.signature(scheduler.set_timesteps).parameters.keys():
        raise ValueError(
            f"scheduler {type(scheduler).__name__} takes no {' and '.join(sorted(foreign))}, which this pipeline "
            "gives for its noise levels; accepted: the pipeline's own, and others whose set_timesteps takes them"
        )
    scheduler.set_timesteps(steps, device=device, **given)


def check_scheduler(scheduler: Any, steps: int, **levels: Any) -> Any:
    """Refuse what can't be stopped and gone on with: tried on random numbers in the model's place."""
    name = type(scheduler).__name__
    kind = prediction_of(scheduler)
    if kind not in ("epsilon", "v_prediction", "sample", "flow"):
        raise ValueError(f"scheduler {name} predicts {kind!r}; accepted: epsilon, v_prediction, sample, flow")
    try:
        set_levels(scheduler, steps, **levels)
        return _continued(scheduler, steps)
    except (TypeError, AttributeError, NotImplementedError) as error:
        raise ValueError(
            f"scheduler {name} isn't used as others are ({error}); accepted: {', '.join(SCHEDULERS)} and others that "
            "have `timesteps` and `step(prediction, t, latents)`"
        ) from error


def _continued(scheduler: Any, steps: int) -> Any:
    """The scheduler, if it asks once per step and a run continued from the middle is the whole run."""
    name = type(scheduler).__name__
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
            scaled_input(scheduler, x, scheduler.timesteps[i])
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


def check_start(scheduler: Any, alpha_bar: Tensor) -> None:
    """At a terminal signal-to-noise ratio of zero the input is pure noise: the noise in it says nothing, so that a
    model that predicts it is divided by zero (Lin et al. 2023).
    """
    if prediction_of(scheduler) == "epsilon" and float(alpha_bar[0]) <= 1e-12:
        raise ValueError(
            f"scheduler {type(scheduler).__name__} starts from pure noise (rescale_betas_zero_snr or the like) while "
            "the model predicts epsilon; take prediction_type='v_prediction' or a schedule with signal left"
        )


def prediction_of(scheduler: Any) -> str | None:
    """What the model is taken to predict."""
    return "flow" if is_flow(scheduler) else getattr(scheduler.config, "prediction_type", None)


def scaled_input(scheduler: Any, x: Tensor, t: Tensor) -> Tensor:
    """The latents as the model reads them."""
    return x if is_flow(scheduler) else scheduler.scale_model_input(x, t)


def alpha_bar(scheduler: Any) -> Tensor:
    """Share of the signal's variance ᾱ before each step, (steps,) float32."""
    if is_flow(scheduler):
        sigmas = scheduler.sigmas[: len(scheduler.timesteps)].float()
        return (1 - sigmas).square() / ((1 - sigmas).square() + sigmas.square())
    if hasattr(scheduler, "sigmas"):
        return 1 / (1 + scheduler.sigmas[: len(scheduler.timesteps)].float() ** 2)
    return scheduler.alphas_cumprod.to(scheduler.timesteps.device)[scheduler.timesteps.long()].float()


def grows(scheduler: Any) -> bool:
    """Whether latents carry noise of standard deviation σ on a clean part of its own size (Euler's convention)."""
    return hasattr(scheduler, "is_scale_input_called")


def clean(predicted: Tensor, x: Tensor, alpha: Tensor, kind: str) -> Tensor:
    """The clean latents that a prediction amounts to; x = √ᾱ x₀ + √(1−ᾱ) ε, or for a flow (1 − σ) x₀ + σ ε."""
    signal, noise = alpha.sqrt().to(x.dtype), (1 - alpha).sqrt().to(x.dtype)
    if kind == "flow":
        return x - noise / (signal + noise) * predicted
    if kind == "epsilon":
        return (x - noise * predicted) / signal
    return signal * x - noise * predicted if kind == "v_prediction" else predicted


def noised(scheduler: Any, x0: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Clean latents with noise at a level, in the scheduler's own scale."""
    if is_flow(scheduler):
        sigma = (1 - alpha).sqrt() / (alpha.sqrt() + (1 - alpha).sqrt())
        return (1 - sigma) * x0 + sigma * noise
    x = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
    return x / alpha.sqrt() if grows(scheduler) else x
