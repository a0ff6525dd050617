"""LRP as an ordinary differentiable computation, for training through heatmaps.

The engine's modified backward pass can't be differentiated again: a double backward would apply the LRP rules to the
activations' own dependence on the weights. Here the true forward pass runs, its activations stay in the graph, and
relevance is computed top-down with ordinary operations (transposed convolutions, products, safe division). For ReLU
nets and `rule="epsilon"` the heatmap is `x * dz_c/dx`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared._checks import check_choice, check_finite
from shared.lrp._errors import unsupported
from shared.lrp.rules._canonizers import MergedPair
from shared.lrp.rules._ops import AvgPool, BatchNorm, LinearOp, linear_op, pad_input

__all__ = ["UnrolledLRP", "safe_divide"]

RULES = ("epsilon", "zplus")
FIRST = (None, "flat", "w2", "zbox")
TINY = 1e-9
_PASS = (nn.ReLU, nn.Dropout, nn.Dropout2d, nn.Identity)
_SUPPORTED = ("Linear", "Conv", "BatchNorm", "ReLU", "MaxPool2d", "AvgPool", "Flatten", "Dropout", "Identity")


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """`numerator / denominator`, 0 (with gradient 0) where the denominator is next to nothing.

    Parameters
    ----------
    numerator : of any shape.
    denominator : broadcasts to it; below 1e-9 in size it counts as 0.

    Returns
    -------
    In the broadcast shape.
    """
    small = denominator.abs() < TINY
    return (numerator / denominator.masked_fill(small, 1.0)).masked_fill(small, 0.0)


class UnrolledLRP:
    """Logits and class heatmaps of a sequential ReLU net, differentiable in its parameters and input.

    Parameters
    ----------
    model : an `nn.Sequential` (nested ones are flattened) or a sequence of modules that are applied in order: Linear,
        convolutions, ReLU, MaxPool2d, average pools, Flatten, BatchNorm, Dropout.
    rule : "epsilon" (LRP-0 with safe division) or "zplus" (positive weights only, biases ignored; inputs >= 0).
    first : rule of the first linear layer: None (as `rule`), "flat", "w2" or "zbox" (the input's own minimum and
        maximum per image are the bounds).
    bn : "merge" folds a batch norm into the layer before it (running statistics); "detach" sends relevance through it
        by the constant factor `scale * x / BN(x)`.
    """

    def __init__(
        self,
        model: nn.Module | Sequence[nn.Module],
        *,
        rule: str = "zplus",
        first: str | None = None,
        bn: str = "merge",
    ) -> None:
        self.rule, self.first = check_choice("rule", rule, RULES), check_choice("first", first, FIRST)
        self.merge = check_choice("bn", bn, ("merge", "detach")) == "merge"
        self.steps = _steps(list(_flatten(model)), self.merge)

    def __call__(self, x: Tensor, *, classes: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Logits `(B, C)` and heatmaps summed over channels `(B, K, H, W)`; arguments as of `relevance`."""
        logits, relevance = self.relevance(x, classes=classes)
        return logits, relevance.sum(2) if relevance.ndim > 3 else relevance

    def relevance(self, x: Tensor, *, classes: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Relevance of each class's own logit.

        Parameters
        ----------
        x : float `(B, ...)`.
        classes : K of them; default all.

        Returns
        -------
        Logits `(B, C)` and relevance `(B, K, *x.shape[1:])`.

        Raises
        ------
        ValueError
            x isn't finite, a class is out of range.
        """
        check_finite("x", x)
        activations = [x]
        for step in self.steps:
            activations.append(step.forward(activations[-1]))
        logits = activations[-1]
        chosen = torch.arange(logits.shape[1]) if classes is None else torch.as_tensor(list(classes))
        if chosen.numel() == 0 or int(chosen.min()) < 0 or int(chosen.max()) >= logits.shape[1]:
            raise ValueError(f"classes={classes!r} is out of range for {logits.shape[1]} classes")
        pick = F.one_hot(chosen, logits.shape[1]).to(logits)  # (K, C)
        relevance = logits[:, None] * pick
        linear = [step for step in self.steps if step.op is not None]
        for step, before, after in zip(self.steps[::-1], activations[-2::-1], activations[:0:-1]):
            rule = self.first if step is linear[0] and self.first is not None else self.rule
            relevance = step.backward(rule, before, after, relevance)
        return logits, relevance


def _flatten(model: nn.Module | Sequence[nn.Module]) -> Iterator[nn.Module]:
    if isinstance(model, nn.Sequential | list | tuple):
        for child in model:
            yield from _flatten(child)
    else:
        yield model


def _steps(modules: list[nn.Module], merge: bool) -> list[_Step]:
    steps: list[_Step] = []
    for module in modules:
        if merge and isinstance(module, BatchNorm) and steps and steps[-1].op is not None:
            last = steps[-1]
            last.pair = MergedPair(last.op, last.module, module, type(module).__name__)
        else:
            steps.append(_Step(module, linear_op(module)))
    if not any(step.op is not None for step in steps):
        raise ValueError("model has no linear layer; give an nn.Sequential or a list of its modules in order")
    return steps


@dataclass
class _Step:
    """One layer: its true forward pass and the explicit redistribution of relevance `(B, K, ...)`."""

    module: Any
    op: LinearOp | None
    pair: MergedPair | None = None

    def __post_init__(self) -> None:
        known = (*_PASS, *AvgPool, *BatchNorm, nn.MaxPool2d, nn.Flatten)
        if self.op is None and not isinstance(self.module, known):
            raise unsupported("the layer", self.module, "model", _SUPPORTED)

    def parameters(self) -> tuple[Tensor, Tensor | None]:
        return (self.module.weight, self.module.bias) if self.pair is None else self.pair.parameters()

    def forward(self, x: Tensor) -> Tensor:
        if self.op is not None:
            return self.op.apply(pad_input(self.module, x), *self.parameters())
        return torch.relu(x) if isinstance(self.module, nn.ReLU) else self.module(x)  # never in place

    def backward(self, rule: str, x: Tensor, z: Tensor, r: Tensor) -> Tensor:
        if self.op is not None:
            return self._linear(rule, x, z, r)
        if isinstance(self.module, nn.Flatten):
            return r.reshape(*r.shape[:2], *x.shape[1:])
        if isinstance(self.module, nn.MaxPool2d):
            return _max_pool(self.module, x, r)
        if isinstance(self.module, AvgPool):
            return x[:, None] * _transpose(self.module, x, safe_divide(r, z[:, None]))
        if isinstance(self.module, BatchNorm):
            return r * (self._scale(x) * safe_divide(x, z)).detach()[:, None]
        return r

    def _scale(self, x: Tensor) -> Tensor:
        norm = self.module
        var = x.var([0, *range(2, x.ndim)], unbiased=False) if norm.training else norm.running_var
        scale = torch.rsqrt(var + norm.eps) * (1.0 if norm.weight is None else norm.weight)
        return scale.view(1, -1, *([1] * (x.ndim - 2)))

    def _linear(self, rule: str, x: Tensor, z: Tensor, r: Tensor) -> Tensor:
        op, weight = self.op, self.parameters()[0]
        if type(self.module).__name__.startswith("Conv") and pad_input(self.module, x) is not x:
            raise unsupported("non-zero or 'same' padding", self.module, "model", ("symmetric zero padding",))

        def pull(w: Tensor, denominator: Tensor) -> Tensor:
            return _folded(lambda s: op.vjp(w, s, torch.Size((s.shape[0], *x.shape[1:]))), safe_divide(r, denominator))

        inputs = x[:, None]
        if rule == "epsilon":
            return inputs * pull(weight, z[:, None])
        if rule == "zplus":
            positive = weight.clamp(min=0)
            return inputs * pull(positive, op.apply(x, positive, None)[:, None])
        if rule == "zbox":
            return self._box(x, weight, pull)
        stand_in = torch.ones_like(weight) if rule == "flat" else weight**2
        return pull(stand_in, op.apply(torch.ones_like(x), stand_in, None)[:, None])

    def _box(self, x: Tensor, weight: Tensor, pull: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        axes = tuple(range(1, x.ndim))
        low, high = (torch.ones_like(x) * bound for bound in (x.amin(axes, True), x.amax(axes, True)))
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        parts = [(x, weight, 1), (low, up, -1), (high, down, -1)]
        total = sum(sign * self.op.apply(value, w, None) for value, w, sign in parts)[:, None]
        return sum(sign * value[:, None] * pull(w, total) for value, w, sign in parts)


def _folded(function: Callable[[Tensor], Tensor], s: Tensor) -> Tensor:
    """Apply a batched function to `(B, K, ...)` with the classes folded into the batch."""
    out = function(s.flatten(0, 1))
    return out.reshape(*s.shape[:2], *out.shape[1:])


def _transpose(pool: nn.Module, x: Tensor, s: Tensor) -> Tensor:
    """The transposed product of a linear pooling layer with `(B, K, ...)`, differentiable in s."""

    def vjp(folded: Tensor) -> Tensor:
        with torch.enable_grad():
            dummy = torch.zeros(len(folded), *x.shape[1:], dtype=x.dtype, device=x.device, requires_grad=True)
            return torch.autograd.grad(pool(dummy), dummy, folded, create_graph=True)[0]

    return _folded(vjp, s)


def _max_pool(pool: nn.MaxPool2d, x: Tensor, r: Tensor) -> Tensor:
    """Relevance to the maximum of each window; overlapping windows add up."""
    how = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
    _, index = F.max_pool2d(x.detach(), *how, return_indices=True)
    index = index.flatten(2)[:, None].expand(-1, r.shape[1], -1, -1)
    flat = r.new_zeros(*r.shape[:2], x.shape[1], x.shape[2] * x.shape[3])
    return flat.scatter_add(-1, index, r.flatten(3)).reshape(*r.shape[:2], *x.shape[1:])
