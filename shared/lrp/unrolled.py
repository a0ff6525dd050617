"""LRP as an ordinary differentiable computation, for training through heatmaps.

The engine's modified backward pass can't be differentiated again: a double backward would apply the LRP rules to the
activations' own dependence on the weights. Here the true forward pass runs, its activations stay in the graph, and
relevance is computed top-down with ordinary operations (transposed convolutions, products). What is carried is the
coefficient `c` of a relevance `R = x c`, for all classes at once, so that ReLU, pooling and sums need no division. For
ReLU nets and `rule="epsilon"` the heatmap is `x * dz_c/dx`. Yu et al. 2024 (arXiv 2407.03009) call this unrolled LRP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shared._checks import check_choice, check_finite, check_range
from shared.lrp._errors import unsupported
from shared.lrp._plan import Branches, flatten
from shared.lrp.rules._canonizers import MergedPair
from shared.lrp.rules._ops import AvgPool, BatchNorm, LinearOp, linear_op, pad_input

__all__ = ["Branches", "UnrolledLRP", "safe_divide"]

RULES = ("epsilon", "zplus")
FIRST = (None, "flat", "w2", "zbox")
TINY = 1e-9
_PASS = (nn.ReLU, nn.Dropout, nn.Dropout2d, nn.Identity)
_SUPPORTED = (
    *("Linear", "Conv", "BatchNorm", "ReLU", "MaxPool2d", "AvgPool", "Flatten", "Dropout", "Identity", "Branches"),
    *("SmallVGG", "SmallConv", "SmallResNet", "PooledVGG", "transformers' ResNetForImageClassification"),
)


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
    """Logits and class heatmaps of a ReLU net, differentiable in its parameters and input; it adds no parameter.

    Parameters
    ----------
    model : the modules in the order of application, as an `nn.Sequential` or another sequence (nested ones are
        flattened): Linear, convolutions, ReLU, max and average pools, Flatten, BatchNorm, Dropout, and `Branches` for a
        sum of two paths. Networks of `shared.nets` and transformers' ResNets are taken apart by themselves.
    rule : "epsilon" (LRP-0: the gradient, as the denominators cancel) or "zplus" (positive weights only, biases
        ignored; inputs >= 0). The sum of two branches splits relevance in proportion to them.
    first : rule of the first linear layer: None (as `rule`), "flat", "w2" or "zbox" (the input's own minimum and
        maximum per image are the bounds).
    bn : "merge" folds a batch norm into the layer before it (running statistics); "detach" sends relevance through it
        by the factor `scale * x / BN(x)`, constant for gradients, and lets it normalise as its mode says.
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
        merge = check_choice("bn", bn, ("merge", "detach")) == "merge"
        self.steps = _steps(flatten(model), merge)
        leading = next((i for i, step in enumerate(self.steps) if getattr(step, "op", None) is not None), None)
        if leading is None:
            raise ValueError("model has no linear layer; give an nn.Sequential or a list of its modules in order")
        self._leading = leading
        if first is not None and not all(isinstance(s.module, (*_PASS, nn.Flatten)) for s in self.steps[:leading]):
            raise unsupported("what comes before the first linear layer", None, "model", ("Flatten", "ReLU", "Dropout"))

    def __call__(
        self, x: Tensor, *, classes: Sequence[int] | None = None, batch_size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits `(B, C)` and heatmaps summed over channels `(B, K, H, W)`; arguments as of `relevance`."""
        logits, relevance = self.relevance(x, classes=classes, batch_size=batch_size)
        return logits, relevance.sum(2) if relevance.ndim > 3 else relevance

    def relevance(
        self, x: Tensor, *, classes: Sequence[int] | None = None, batch_size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Relevance of each class's own logit.

        Parameters
        ----------
        x : float `(B, ...)`.
        classes : K of them; default all.
        batch_size : how many classes at once; those of one batch are computed anew in the backward pass, so that memory
            holds one batch's graph. By default all, and none is computed twice.

        Returns
        -------
        Logits `(B, C)` and relevance `(B, K, *x.shape[1:])`.

        Raises
        ------
        ValueError
            x isn't finite or is empty, a class is out of range.
        """
        check_finite("x", x)
        kept: list[Any] = []
        logits = _forward(self.steps, x, kept)
        chosen = torch.arange(logits.shape[1]) if classes is None else torch.as_tensor(list(classes))
        if chosen.numel() == 0 or int(chosen.min()) < 0 or int(chosen.max()) >= logits.shape[1]:
            raise ValueError(f"classes={classes!r} is out of range for {logits.shape[1]} classes")
        seeds = F.one_hot(chosen, logits.shape[1]).to(logits)[None].expand(len(x), -1, -1)  # (B, K, C)
        if batch_size is None:
            return logits, self._down(x, seeds, kept)
        check_range("batch_size", batch_size, 1)
        parts = [checkpoint(self._down, x, part, kept, use_reentrant=False) for part in seeds.split(batch_size, 1)]
        return logits, torch.cat(parts, 1)

    def _down(self, image: Tensor, c: Tensor, kept: list[Any]) -> Tensor:
        """Relevance of the input from the coefficients of the logits."""
        first = self._leading if self.first is not None else -1
        found = _backward(self.steps[first + 1 :], kept[first + 1 :], _Coefficients(c), self.rule)
        if first < 0:
            return found.times(image).full()
        x, z = kept[first]
        relevance = self.steps[first].first(self.first, x, z, found)
        return relevance.reshape(*relevance.shape[:2], *image.shape[1:])


def _forward(steps: list[_Step | _Sum], x: Tensor, kept: list[Any]) -> Tensor:
    """The true forward pass; what each step needs for its way back is appended to `kept`."""
    for step in steps:
        x = step.forward(x, kept)
    return x


def _backward(steps: list[_Step | _Sum], kept: list[Any], c: _Coefficients, rule: str) -> _Coefficients:
    for step, own in zip(reversed(steps), reversed(kept), strict=True):
        c = step.backward(rule, own, c)
    return c


def _steps(modules: list[nn.Module], merge: bool) -> list[_Step | _Sum]:
    steps: list[Any] = []
    for module in modules:
        if isinstance(module, Branches):
            steps.append(_Sum(_steps(flatten(module.main), merge), _steps(flatten(module.shortcut), merge)))
        elif merge and isinstance(module, BatchNorm) and steps and getattr(steps[-1], "op", None) is not None:
            last = steps[-1]
            last.pair = MergedPair(last.op, last.module, module, type(module).__name__)
        else:
            steps.append(_Step(module, linear_op(module)))
    return steps


@dataclass
class _Coefficients:
    """Coefficients `c` of all classes, yet to be multiplied by a `factor` that they share, and to be enlarged.

    Only the product with it costs as much as there are classes, so what ReLU, max-pooling, norms and ratios contribute
    is collected until the next linear layer needs it.
    """

    c: Tensor  # (B, K, ...)
    factor: Tensor | None = None  # (B, ...)
    up: int = 1  # each place of c stands for this many of the factor's, along both axes

    def times(self, factor: Tensor) -> _Coefficients:
        return _Coefficients(self.c, factor if self.factor is None else self.factor * factor, self.up)

    def full(self) -> Tensor:
        if self.factor is None:
            return self.c
        c = self.c if self.up == 1 else _folded(lambda c: F.interpolate(c, scale_factor=float(self.up)), self.c)
        return c * self.factor[:, None]

    def reshape(self, shape: torch.Size) -> _Coefficients:
        whole = self.full()
        return _Coefficients(whole.reshape(*whole.shape[:2], *shape))


@dataclass
class _Sum:
    """Two branches added: `z = m + s` and `R_m = m R / z`, `R_s = s R / z`, so both get the coefficient `R / z`."""

    main: list[Any]
    shortcut: list[Any]
    module: Any = None

    def forward(self, x: Tensor, kept: list[Any]) -> Tensor:
        inner: tuple[list[Any], list[Any]] = [], []
        kept.append(inner)
        return _forward(self.main, x, inner[0]) + _forward(self.shortcut, x, inner[1])

    def backward(self, rule: str, own: tuple[list[Any], list[Any]], c: _Coefficients) -> _Coefficients:
        c = _Coefficients(c.full())
        main, shortcut = (_backward(path, kept, c, rule) for path, kept in zip((self.main, self.shortcut), own))
        return _Coefficients(main.full() + shortcut.full())


@dataclass
class _Step:
    """One layer: its true forward pass, and the coefficients `(B, K, ...)` of its input from those of its output."""

    module: Any
    op: LinearOp | None
    pair: MergedPair | None = None

    def __post_init__(self) -> None:
        known = (*_PASS, *AvgPool, *BatchNorm, nn.MaxPool2d, nn.Flatten)
        if self.op is None and not isinstance(self.module, known):
            raise unsupported("the layer", self.module, "model", _SUPPORTED)
        explicit = isinstance(getattr(self.module, "padding", 0), str) and self.module.padding != "valid"
        if self.op is not None and (explicit or getattr(self.module, "padding_mode", "zeros") != "zeros"):
            raise unsupported("non-zero or 'same' padding", self.module, "model", ("symmetric zero padding",))

    def parameters(self) -> tuple[Tensor, Tensor | None]:
        return (self.module.weight, self.module.bias) if self.pair is None else self.pair.parameters()

    def forward(self, x: Tensor, kept: list[Any]) -> Tensor:
        if self.op is not None:
            z = self.op.apply(pad_input(self.module, x), *self.parameters())
        else:
            z = torch.relu(x) if isinstance(self.module, nn.ReLU) else self.module(x)  # never in place
        kept.append((x, z))
        return z

    def backward(self, rule: str, own: tuple[Tensor, Tensor], c: _Coefficients) -> _Coefficients:
        x, z = own
        if self.op is not None:
            return _Coefficients(self._linear(rule, x, z, c))
        if isinstance(self.module, nn.Flatten):
            return c.reshape(x.shape[1:])
        if isinstance(self.module, nn.MaxPool2d):
            return _max_pool(self.module, x, c.full())
        if isinstance(self.module, AvgPool):
            return _Coefficients(_transpose(self.module, x, c.full()))
        if isinstance(self.module, BatchNorm):
            return c.times(self._factor(x, z))
        if isinstance(self.module, nn.ReLU):
            return c.times((x > 0).to(x))
        if isinstance(self.module, nn.Dropout | nn.Dropout2d) and self.module.training:
            return c.times(safe_divide(z, x))  # R passes, and R = z c = x c_in
        return c

    def _linear(self, rule: str, x: Tensor, z: Tensor, c: _Coefficients) -> Tensor:
        weight = self.parameters()[0]
        if rule == "epsilon":
            return self._pull(weight, x, c.full())
        positive = weight.clamp(min=0)
        return self._pull(positive, x, c.times(safe_divide(z, self.op.apply(x, positive, None))).full())

    def first(self, rule: str, x: Tensor, z: Tensor, c: _Coefficients) -> Tensor:
        """Relevance of the input itself, by a rule for inputs that may be negative."""
        op, weight = self.op, self.parameters()[0]
        if rule == "zbox":
            return self._box(x, weight, z, c)
        stand_in = torch.ones_like(weight) if rule == "flat" else weight**2
        total = op.apply(torch.ones_like(x), stand_in, None)
        return self._pull(stand_in, x, c.times(safe_divide(z, total)).full())

    def _pull(self, weight: Tensor, x: Tensor, s: Tensor) -> Tensor:
        return _folded(lambda s: self.op.vjp(weight, s, torch.Size((len(s), *x.shape[1:]))), s)

    def _box(self, x: Tensor, weight: Tensor, z: Tensor, c: _Coefficients) -> Tensor:
        axes = tuple(range(1, x.ndim))
        low, high = (torch.ones_like(x) * bound for bound in (x.amin(axes, True), x.amax(axes, True)))
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        parts = [(x, weight, 1), (low, up, -1), (high, down, -1)]
        total = sum(sign * self.op.apply(value, w, None) for value, w, sign in parts)
        s = c.times(safe_divide(z, total)).full()
        return sum(sign * value[:, None] * self._pull(w, x, s) for value, w, sign in parts)

    def _factor(self, x: Tensor, z: Tensor) -> Tensor:
        """Of a batch norm: `x c_in = (scale x / z)_constant z c`, so its value is `scale`."""
        norm = self.module
        var = x.var([0, *range(2, x.ndim)], unbiased=False) if norm.training else norm.running_var
        scale = torch.rsqrt(var + norm.eps) * (1.0 if norm.weight is None else norm.weight)
        constant = scale.view(1, -1, *([1] * (x.ndim - 2))) * safe_divide(x, z)
        return safe_divide(constant.detach() * z, x)


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


def _max_pool(pool: nn.MaxPool2d, x: Tensor, c: Tensor) -> _Coefficients:
    """What arrives goes to the maximum of each window; overlapping windows add up (unpooling would overwrite)."""
    how = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
    out, index = F.max_pool2d(x.detach(), *how, return_indices=True)
    index = index.flatten(2)
    k = x.shape[-1] // out.shape[-1]
    tiles = how in (((k, k),) * 2 + (0, 1, False), (k, k, 0, 1, False)) and x.shape[-2:] == (
        out.shape[-2] * k,
        out.shape[-1] * k,
    )
    if tiles:
        chosen = torch.zeros_like(x, memory_format=torch.contiguous_format).flatten(2).scatter(2, index, 1.0)
        return _Coefficients(c, chosen.view(x.shape), k)
    index = index[:, None].expand(-1, c.shape[1], -1, -1)
    flat = c.new_zeros(*c.shape[:2], x.shape[1], x.shape[2] * x.shape[3])
    return _Coefficients(flat.scatter_add(-1, index, c.flatten(3)).reshape(*c.shape[:2], *x.shape[1:]))
