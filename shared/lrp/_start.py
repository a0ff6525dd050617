"""Starting the backward pass at a hidden layer: its output instead of the logits, a unit instead of a class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice
from shared.hooks import edit, find_channel_axis, find_module
from shared.lrp._inputs import Inputs

START_INITS = ("logit", "one", "coefficient")


def start_activation(inputs: Inputs, layer: str) -> Tensor:
    """The layer's output in one call of the model, with its graph to the input.

    Parameters
    ----------
    inputs : the call of the model.
    layer : name of a module that runs once.

    Returns
    -------
    A copy that in-place operations further on don't change.

    Raises
    ------
    ValueError
        The layer runs not at all, more than once, or doesn't depend on the input.
    """
    found: list[Tensor] = []

    def keep(activation: Tensor) -> Tensor:
        found.append(activation.clone())
        return activation.clone()

    with edit(inputs.model, {layer: keep}):
        inputs.run()
    if len(found) != 1:
        raise ValueError(f"start_layer={layer!r} runs {len(found)} times in a forward pass; name one that runs once")
    if not found[0].requires_grad:
        raise ValueError(f"start_layer={layer!r} does not depend on x differentiably")
    return found[0]


def start_seed(
    model: nn.Module, layer: str, target: Any, activation: Tensor, init: str, channel_axis: int | None
) -> Tensor:
    """Coefficient at the layer's output.

    With a(p) the unit's activation, "logit" sends R = max(a, 0) down (the coefficient is 1 where a > 0), "one" the same
    scaled to a sum of 1, "coefficient" takes max(a, 0) as the coefficient, so that R is its square. Given max(a, 0) as
    `init_rel`, zennit-crp does the first where its composite has rules and the last where it has none (PURE).

    Parameters
    ----------
    model : the explained model.
    layer : the start layer.
    target : channel as an int or LongTensor `(B,)`; float weights in the activation's shape or a callable that makes
        them of it, which are the coefficient themselves.
    activation : the layer's output.
    init : "logit", "one" or "coefficient".
    channel_axis : where the module doesn't tell.

    Returns
    -------
    A tensor in the activation's shape.

    Raises
    ------
    ValueError
        No target, one out of range or of another shape; an unknown init.
    """
    check_choice("init", init, START_INITS)
    weights = target(activation.detach()) if callable(target) else target
    if isinstance(weights, Tensor) and weights.is_floating_point():
        if weights.shape != activation.shape:
            got, want = tuple(weights.shape), tuple(activation.shape)
            raise ValueError(f"target weights have shape {got}; the output of start_layer={layer!r} has {want}")
        if init == "coefficient":
            raise ValueError('init="coefficient" is for a target that is a unit; weights are the coefficient already')
        start = weights.to(activation)
    else:
        axis = find_channel_axis(model, layer, activation, channel_axis=channel_axis)
        above = activation.detach().clamp(min=0)
        start = _unit(weights, layer, activation, axis) * (above if init == "coefficient" else (above > 0))
    if init != "one":
        return start
    total = (start * activation.detach()).flatten(1).sum(1)
    if bool((total == 0).any()):
        raise ValueError('init="one" divides by the unit\'s relevance, which is 0 for some row')
    return start / total.view(-1, *[1] * (activation.ndim - 1))


def _unit(unit: Any, layer: str, activation: Tensor, axis: int) -> Tensor:
    """1 at each row's unit, 0 elsewhere."""
    if unit is None:
        raise ValueError(f"target is None; say which unit of start_layer={layer!r} is explained")
    index = torch.as_tensor(unit, device=activation.device)
    rows, channels = activation.shape[0], activation.shape[axis]
    if index.is_floating_point() or index.dtype == torch.bool or tuple(index.shape) not in ((), (rows,)):
        raise ValueError(f"target must be an int or a LongTensor ({rows},) of units; got {unit!r}")
    if int(index.min()) < -channels or int(index.max()) >= channels:
        raise ValueError(f"target={unit!r} is out of range for the {channels} channels of start_layer={layer!r}")
    shape = [1] * activation.ndim
    shape[0], shape[axis] = rows, channels
    chosen = torch.nn.functional.one_hot((index % channels).expand(rows), channels)
    return chosen.view(shape).to(activation.dtype).expand_as(activation)


def check_start(model: nn.Module, layer: str | None, position: Any, output: Any) -> None:
    """Raise `ValueError` for an unknown layer, or for options that choose among logits beside it."""
    if layer is None:
        return
    find_module(model, layer)
    for name, value in (("position", position), ("output", output)):
        if value is not None:
            raise ValueError(f"{name} chooses what of the model's output is explained; leave it out with start_layer")
