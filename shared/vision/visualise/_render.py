"""`render`: gradient descent on a canvas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import interpolate
from tqdm.auto import tqdm

from shared._checks import check_choice, check_finite, check_range
from shared.hooks import capture, find_module, refuse_training
from shared.lrp.engine import frozen
from shared.nets import logits_of
from shared.vision.visualise._canvas import Canvas
from shared.vision.visualise._objectives import Objective
from shared.vision.visualise._transforms import Transform

SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True, eq=False)
class Rendering:
    """What `render` made.

    Parameters
    ----------
    images : (n, C, H, W), in [0, 1].
    losses : (steps, n), before each step.
    alpha : (n, H, W) in [0, 1]: where the loss's gradient was strong over all steps, for drawing as opacity.
    """

    images: Tensor
    losses: Tensor
    alpha: Tensor


def render(
    model: nn.Module,
    objective: Objective,
    canvas: Canvas,
    *,
    steps: int = 256,
    lr: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.999),
    optimiser: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    schedule: str = "constant",
    warmup: int = 0,
    transforms: Sequence[Transform] = (),
    copies: int = 1,
    prepare: Callable[[Tensor], Tensor] | None = None,
    penalty: Callable[[Tensor], Tensor] | None = None,
    generator: Generator | None = None,
    progress: bool = False,
) -> Rendering:
    """Images that minimise an objective, all targets in one batch; no image's result depends on the others.

    Parameters
    ----------
    model : nn.Module
        In eval mode; it comes back as it was.
    objective : Objective
    canvas : Canvas
        Changed in place. It says how many images, and what they begin as.
    steps : int
    lr : float
    betas : (float, float)
    optimiser : callable
        Adam or one of its relatives (parameters, lr=, betas=).
    schedule : str
        "constant", or "cosine" down to zero.
    warmup : int
        Steps in which the learning rate rises to `lr`.
    transforms : sequence of Transform
        Applied in order before the model; what has then another size is resized to the canvas's.
    copies : int
        How often each image goes through them per step; its loss is the mean.
    prepare : callable, optional
        Images in [0, 1] -> the model's input, such as `LoadedModel.preprocess`.
    penalty : callable, optional
        Images (n, C, H, W) -> (n,), added to the loss (`total_variation`).
    generator : torch.Generator, optional
        Of the transforms.
    progress : bool

    Returns
    -------
    Rendering
    """
    _check(model, objective, steps=steps, lr=lr, copies=copies, schedule=schedule, warmup=warmup)
    parameters = [p for p in canvas.parameters() if p.requires_grad]
    if not parameters or any(p.is_inference() for p in parameters):
        raise ValueError("canvas was made under inference_mode or has no parameter that requires grad")
    climb = optimiser(parameters, lr=lr, betas=betas)
    rate = torch.optim.lr_scheduler.LambdaLR(climb, lambda t: _rate(t, steps, warmup, schedule))
    losses, strength = [], 0.0
    with frozen(model):
        for step in tqdm(range(steps), disable=not progress):
            images = canvas()
            if objective.n not in (None, 1, len(images)):
                raise ValueError(f"objective is for {objective.n} images; the batch holds {len(images)} of the canvas")
            loss = _loss(model, objective, images, transforms, copies, prepare, generator)
            loss = loss if penalty is None else loss + penalty(images)
            if not bool(torch.isfinite(loss).all()):
                raise ValueError(f"objective isn't finite after {step} steps; try a smaller lr than {lr}")
            slope, *gradients = torch.autograd.grad(loss.sum(), [images, *parameters], allow_unused=True)
            strength = strength + (0.0 if slope is None else slope.abs().mean(1))
            for parameter, gradient in zip(parameters, gradients):
                parameter.grad = gradient
            climb.step()
            rate.step()
            canvas.project()
            losses.append(loss.detach())
        with torch.no_grad():
            images = canvas().detach().clone()
    climb.zero_grad()
    return Rendering(images, torch.stack(losses), _opacity(torch.as_tensor(strength).expand(images[:, 0].shape)))


def _loss(
    model: nn.Module,
    objective: Objective,
    images: Tensor,
    transforms: Sequence[Transform],
    copies: int,
    prepare: Callable[[Tensor], Tensor] | None,
    generator: Generator | None,
) -> Tensor:
    """(n,)"""
    seen = images.repeat(copies, 1, 1, 1)
    for transform in transforms:
        seen = transform(seen, generator)
    if seen.shape[2:] != images.shape[2:]:
        seen = interpolate(seen, images.shape[2:], mode="bilinear", antialias=True, align_corners=False)
    seen = seen if prepare is None else prepare(seen)
    with capture(model, objective.layers, detach=False) as activations:
        output = logits_of(model, seen)
    return objective.loss(activations, output, seen).view(copies, len(images)).mean(0)


def total_variation(images: Tensor) -> Tensor:
    """Norms of the differences of neighbours, down, across and on both diagonals (VITAL's prior).

    Parameters
    ----------
    images : Tensor, shape (n, C, H, W)

    Returns
    -------
    Tensor, shape (n,)
    """
    if images.ndim != 4 or min(images.shape[2:]) < 2:
        raise ValueError(f"images has shape {tuple(images.shape)}; expected (n, C, H, W) of at least two pixels a side")
    check_finite("images", images)
    differences = (
        images[:, :, :, 1:] - images[:, :, :, :-1],
        images[:, :, 1:] - images[:, :, :-1],
        images[:, :, 1:, :-1] - images[:, :, :-1, 1:],
        images[:, :, 1:, 1:] - images[:, :, :-1, :-1],
    )
    tiny = torch.finfo(images.dtype).tiny  # flat images: a slope of zero, not NaN
    return sum((d.square().sum((1, 2, 3)) + tiny).sqrt() for d in differences)


def _rate(step: int, steps: int, warmup: int, schedule: str) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def _opacity(strength: Tensor) -> Tensor:
    """Clipped at the 98th percentile and divided by it, as the official code does."""
    top = strength.flatten(1).quantile(0.98, dim=1)[:, None, None]
    return torch.where(top > 0, strength.minimum(top) / top.clamp(min=torch.finfo(strength.dtype).tiny), 1.0)


def _check(model: nn.Module, objective: Objective, *, schedule: str, warmup: int, **sizes: float) -> None:
    refuse_training(model)
    for layer in objective.layers:
        find_module(model, layer)
    check_choice("schedule", schedule, SCHEDULES)
    for name in ("steps", "copies"):
        check_range(name, sizes[name], 1)
    check_range("lr", sizes["lr"], 0)
    check_range("warmup", warmup, 0, sizes["steps"] - 1)
