"""Passes over data: pooled activations of layers, gradients of an output by a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shared import hooks
from shared._checks import check_choice, check_range, check_shape

Data = Tensor | Mapping[str, Any]
Target = int | Tensor | Callable[[Tensor], Tensor]


def activations(
    model: nn.Module,
    layers: str | Sequence[str],
    x: Data,
    *,
    pool: str = "mean",
    channel_axis: int | None = None,
    batch_size: int = 256,
) -> Tensor | dict[str, Tensor]:
    """Pooled activations of one layer or several, in batches and without gradients.

    Parameters
    ----------
    model : any torch module in eval mode.
    layers : a module's name, or several; each must run once per pass.
    x : images or token ids (n, …), or a mapping of tensors by argument name. An `attention_mask` (n, T) in it says
        which tokens are pooled.
    pool : over positions or tokens, see `hooks.pool`.
    channel_axis : where the layers don't tell (`hooks.find_channel_axis`).
    batch_size : rows per pass; the result doesn't depend on it.

    Returns
    -------
    (n, d), or a dict of them by layer.
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    hooks.refuse_training(model)
    axes = {name: hooks.AxisFinder(model, name, channel_axis=channel_axis) for name in names}
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    for batch in hooks.batches(x, batch_size):
        with torch.no_grad(), hooks.capture(model, names, every_call=True) as seen:
            hooks.run_model(model, batch)
        for name in names:
            activation = _only_call(name, seen.get(name, []))
            mask = _token_mask(batch, activation)
            kept[name].append(hooks.pool(activation, pool, channel_axis=axes[name](activation), mask=mask))
    found = {name: torch.cat(parts) for name, parts in kept.items()}
    return found[layers] if isinstance(layers, str) else found


@hooks.graph_mode()
def layer_gradients(
    model: nn.Module,
    layer: str,
    x: Data,
    target: Target,
    *,
    reduce: str = "mean",
    channel_axis: int | None = None,
    batch_size: int = 128,
) -> Tensor:
    """Gradient of the target's logit by the layer's output, per sample.

    Parameters
    ----------
    model : in eval mode; its first output are logits (n, classes), or what a callable `target` takes.
    layer : a module's name; it must run once per pass.
    x : images or token ids (n, …), or a mapping of tensors by argument name (see `activations`).
    target : a class, one per sample (n,), or a function from the model's first output tensor to (batch,) numbers, such
        as `lambda logits: logits[:, -1, token]` for a language model.
    reduce : over positions or tokens: "mean", "sum" (the effect of a shift everywhere), or "none".
    channel_axis : where the layer doesn't tell (`hooks.find_channel_axis`).
    batch_size : rows per pass; the result doesn't depend on it.

    Returns
    -------
    (n, d), or for "none" the shape of the layer's output.
    """
    check_choice("reduce", reduce, ("mean", "sum", "none"))
    hooks.refuse_training(model)
    rows = hooks.count_rows(x)
    targets = None if callable(target) else _per_row(target, rows)
    find = hooks.AxisFinder(model, layer, channel_axis=channel_axis)
    parts, start = [], 0
    for batch in hooks.batches(x, batch_size):
        size = hooks.count_rows(batch)
        scalar = target if targets is None else _logits_at(targets[start : start + size])
        gradient = _gradient(model, layer, batch, scalar)
        mask = _token_mask(batch, gradient)
        parts.append(gradient if reduce == "none" else _reduced(gradient, find(gradient), reduce, mask))
        start += size
    return torch.cat(parts)


def _gradient(model: nn.Module, layer: str, batch: Data, scalar: Callable[[Tensor], Tensor]) -> Tensor:
    """d scalar / d output of the layer, whose output is made a leaf: so the input may be token ids."""
    leaves: list[Tensor] = []

    def cut(activation: Tensor) -> Tensor:
        leaves.append(activation.detach().requires_grad_())
        return leaves[-1].clone()  # in-place operations further on must not meet a leaf

    with hooks.edit(model, {layer: cut}):
        output = hooks.first_tensor(hooks.run_model(model, batch))
        leaf = _only_call(layer, leaves)
        value = scalar(output)
        check_shape("target", value, (len(output),))
        (gradient,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
    if gradient is None:
        raise ValueError(f"layer={layer!r} has no effect on the model's first output")
    return gradient.detach()


def _logits_at(classes: Tensor) -> Callable[[Tensor], Tensor]:
    def scalar(logits: Tensor) -> Tensor:
        if logits.ndim != 2:
            raise ValueError(
                f"target: the model's first output has shape {tuple(logits.shape)}, not (n, classes); give a function "
                "of it, such as lambda logits: logits[:, -1, token]"
            )
        check_range("target", int(classes.min()), 0, logits.shape[1] - 1)
        check_range("target", int(classes.max()), 0, logits.shape[1] - 1)
        return logits.gather(1, classes.to(logits.device)[:, None])[:, 0]

    return scalar


def _per_row(target: int | Tensor, rows: int) -> Tensor:
    classes = torch.as_tensor(target)
    if not classes.ndim:
        return classes.expand(rows)
    check_shape("target", classes, (rows,))
    return classes


def _reduced(gradient: Tensor, axis: int, reduce: str, mask: Tensor | None) -> Tensor:
    axes = tuple(a for a in range(1, gradient.ndim) if a != axis)
    if not axes:
        return gradient
    if mask is not None:
        total = (gradient * mask[..., None]).sum(axes)
        return total / mask.sum(1, keepdim=True) if reduce == "mean" else total
    return gradient.mean(axes) if reduce == "mean" else gradient.sum(axes)


def _only_call(layer: str, calls: list[Tensor]) -> Tensor:
    if len(calls) != 1:
        raise ValueError(f"layer={layer!r} ran {len(calls)} times in a pass; take one that runs once")
    return calls[0]


def _token_mask(batch: Data, activation: Tensor) -> Tensor | None:
    """The attention mask (n, T) of a mapping, where the activation is of its tokens (n, T, d)."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if mask is None or activation.ndim != 3 or activation.shape[:2] != mask.shape:
        return None
    return mask.to(activation.device).bool()
