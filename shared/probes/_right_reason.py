"""Training penalties that unlearn an artifact: by its direction (RR-ClArC) or by its mask (RRR)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from shared import hooks
from shared._checks import check_array, check_choice, check_finite, check_shape
from shared.probes._direction import Direction, stack
from shared.probes._inputs import channel_axis

TARGETS = ("all_logits_random", "max_logit", "target_logit", "all_logits", "logprobs")
NORMS = ("l2", "l1", "cosine")


class RRClArCLoss(nn.Module):
    """Right-reason penalty on sensitivity to artifact directions (Dreyer et al. 2024, arXiv 2308.09437).

    `forward(logits, activation, y=None)` gives the mean over samples and directions of `(v·g)²`, g the gradient of a
    scalar of the logits by the activation, averaged over positions; "l1" takes `|v·g|`, "cosine" `cos(v, g)²`. Add it,
    times a strength, to the task loss, with the activation captured by `hooks.capture(..., detach=False)`.

    target : "all_logits_random", the logits weighted by random signs drawn anew per call; "max_logit";
    "target_logit" (needs y); "all_logits", their sum; "logprobs", the log-probability of y.
    """

    def __init__(
        self,
        directions: Direction | list[Direction] | Tensor,
        *,
        target: str = "all_logits_random",
        norm: str = "l2",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("target", target, TARGETS)
        check_choice("norm", norm, NORMS)
        several = [directions] if isinstance(directions, Direction) else directions
        self.register_buffer("V", torch.nn.functional.normalize(stack(several), dim=1))
        self.target, self.norm, self.generator = target, norm, generator

    def forward(self, logits: Tensor, activation: Tensor, y: Tensor | None = None) -> Tensor:
        (gradient,) = torch.autograd.grad(self._scalar(logits, y).sum(), activation, create_graph=True)
        axes = [a for a in range(1, gradient.ndim) if a != channel_axis(gradient)]
        gradient = gradient.mean(axes) if axes else gradient
        check_shape("directions", self.V, ("k", gradient.shape[1]))
        along = gradient @ self.V.to(gradient).T
        if self.norm == "cosine":
            along = along / gradient.norm(dim=1, keepdim=True).clamp(min=1e-12)
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


def rrr_loss(logits: Tensor, x: Tensor, mask: Tensor, form: str = "l2") -> Tensor:
    """Right-for-the-right-reasons penalty (Ross et al. 2017) on input gradients inside the artifact's mask.

    logits : (n, classes), computed from x (n, C, H, W) that requires gradients; mask : (n, H, W).
    "l2": mean over samples of `Σ (mask · ∂ Σ log p / ∂x)²`; "cosine": cosine between the absolute gradient of the
    largest logit, summed over channels, and the mask.
    """
    check_choice("form", form, ("l2", "cosine"))
    check_finite("x", x)
    check_array("logits", logits, (len(x), "classes"))
    check_array("mask", mask, (len(x), *x.shape[2:]))
    scalar = logits.log_softmax(1).sum() if form == "l2" else logits.amax(1).sum()
    (gradient,) = torch.autograd.grad(scalar, x, create_graph=True)
    if form == "l2":
        return (gradient * mask[:, None]).square().flatten(1).sum(1).mean()
    inside = gradient.sum(1).abs().flatten(1)
    return torch.nn.functional.cosine_similarity(inside, mask.to(inside).flatten(1), dim=1).mean()


@contextmanager
def freeze_up_to(model: nn.Module, layer: str, x: Tensor) -> Iterator[list[nn.Parameter]]:
    """Within the context, modules that run up to and including `layer` are in eval mode and their parameters fixed.

    x : an input that shows the order in which modules run. Yields the parameters that remain to be trained; on exit
    everything is as before.
    """
    check_finite("x", x)
    last, order, reached = hooks.find_module(model, layer), [], []

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
