"""Training penalties that unlearn an artifact: by its direction (RR-ClArC) or by its mask (RRR)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from shared import hooks
from shared._checks import check_array, check_choice, check_finite, check_shape
from shared.probes import Direction, stack_directions
from shared.stats import unit_norm

TARGETS = ("all_logits_random", "max_logit", "target_logit", "all_logits", "logprobs")
NORMS = ("l2", "l1", "cosine")


class RRClArCLoss(nn.Module):
    """Right-reason penalty on sensitivity to artifact directions (Dreyer et al. 2024, arXiv 2308.09437).

    `forward(logits, activation, y=None)` gives the mean over samples and directions of `(v·g)²`, g the gradient of a
    scalar of the logits by the activation, averaged over positions. Add it, times a strength, to the task loss, with
    the activation captured by `hooks.capture(..., detach=False)`.

    Parameters
    ----------
    directions : of the artifacts, at the layer of the activation, or vectors (k, d).
    target : "all_logits_random", the logits weighted by random signs drawn anew per call; "max_logit"; "target_logit"
        (needs y); "all_logits", their sum; "logprobs", the log-probability of y.
    norm : "l2", `(v·g)²`; "l1", `|v·g|`; "cosine", `cos(v, g)²`.
    channel_axis : of maps and tokens (1, -1); the directions' own unless given.
    generator : of the random signs.
    """

    def __init__(
        self,
        directions: Direction | list[Direction] | Tensor,
        *,
        target: str = "all_logits_random",
        norm: str = "l2",
        channel_axis: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("target", target, TARGETS)
        check_choice("norm", norm, NORMS)
        several = [directions] if isinstance(directions, Direction) else directions
        own = None if isinstance(several, Tensor) else several[0].channel_axis
        self.register_buffer("V", unit_norm(stack_directions(several), dim=1))
        self.target = target
        self.norm = norm
        self.channel_axis = own if channel_axis is None else channel_axis
        self.generator = generator

    def forward(self, logits: Tensor, activation: Tensor, y: Tensor | None = None) -> Tensor:
        if not (logits.requires_grad and activation.requires_grad):
            raise ValueError(
                "activation carries no gradient: capture it with detach=False, outside no_grad and inference_mode"
            )
        (gradient,) = torch.autograd.grad(self._scalar(logits, y).sum(), activation, create_graph=True)
        axis = hooks.resolve_axis(gradient, None if gradient.ndim == 2 else self.channel_axis)
        axes = [a for a in range(1, gradient.ndim) if a != axis]
        gradient = gradient.mean(axes) if axes else gradient
        check_shape("directions", self.V, ("k", gradient.shape[1]))
        along = gradient @ self.V.to(gradient).T
        if self.norm == "cosine":
            along = along / gradient.norm(dim=1, keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
        return along.abs().mean() if self.norm == "l1" else along.square().mean()

    def _scalar(self, logits: Tensor, y: Tensor | None) -> Tensor:
        if self.target == "all_logits_random":
            signs = torch.randint(0, 2, logits.shape, generator=self.generator).to(logits) * 2 - 1
            return (signs * logits).sum(1)
        if self.target == "max_logit":
            return logits.amax(1)
        if self.target == "all_logits":
            return logits.sum(1)
        if y is None:
            raise ValueError(f"target={self.target!r} needs y")
        scores = logits.log_softmax(1) if self.target == "logprobs" else logits
        return scores.gather(1, y[:, None])[:, 0]


def rrr_loss(logits: Tensor, x: Tensor, mask: Tensor, *, form: str = "l2") -> Tensor:
    """Right-for-the-right-reasons penalty on input gradients inside the artifact's mask (Ross et al. 2017).

    Parameters
    ----------
    logits : (n, classes), computed from x.
    x : images (n, C, H, W) that require gradients.
    mask : (n, H, W).
    form : "l2", mean over samples of `Σ (mask · ∂ Σ log p / ∂x)²`; "cosine", cosine between the absolute gradient of
        the largest logit, summed over channels, and the mask.

    Returns
    -------
    A number with gradients.
    """
    check_choice("form", form, ("l2", "cosine"))
    check_array("x", x, ("n", "C", "H", "W"))
    check_array("logits", logits, (len(x), "classes"))
    check_array("mask", mask, (len(x), *x.shape[2:]))
    if not logits.requires_grad or not x.requires_grad:
        which = "x" if logits.requires_grad else "logits"
        raise ValueError(f"{which} has no gradient; x must require gradients and logits come from it, outside no_grad")
    scalar = logits.log_softmax(1).sum() if form == "l2" else logits.amax(1).sum()
    (gradient,) = torch.autograd.grad(scalar, x, create_graph=True)
    if form == "l2":
        return (gradient * mask[:, None]).square().flatten(1).sum(1).mean()
    inside = gradient.sum(1).abs().flatten(1)
    return torch.nn.functional.cosine_similarity(inside, mask.to(inside).flatten(1), dim=1).mean()


@contextmanager
def freeze_up_to(model: nn.Module, layer: str, x: Tensor) -> Iterator[list[nn.Parameter]]:
    """Within the context, modules that run up to and including `layer` are in eval mode and their parameters fixed.

    Parameters
    ----------
    model : any torch module that isn't compiled.
    layer : name of the last module to fix.
    x : an input (n, …) that shows the order in which modules run.

    Yields
    ------
    The parameters that remain to be trained; on exit everything is as before.
    """
    check_finite("x", x)
    hooks.refuse_compiled(model)
    last = hooks.find_module(model, layer)
    order: list[nn.Module] = []
    reached: list[bool] = []

    def note(module: nn.Module, *_: object) -> None:
        if not reached:
            order.append(module)
        if module is last:
            reached.append(True)

    leaves = [m for m in model.modules() if not list(m.children()) or m is last]
    handles = [m.register_forward_hook(note) for m in leaves]
    training = {m: m.training for m in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    if not reached:
        raise ValueError(f"layer={layer!r} did not run on the given input")
    frozen = {p for m in order for p in m.parameters()}
    required = {p: p.requires_grad for p in model.parameters()}
    try:
        for p in frozen:
            p.requires_grad_(False)
        for module in order:
            module.eval()
        yield [p for p in model.parameters() if p not in frozen and required[p]]
    finally:
        for p, mode in required.items():
            p.requires_grad_(mode)
        for module, mode in training.items():
            module.training = mode
