"""Units that stay as they are while the rest of a network trains on, and the sub-network that they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_shape, copied
from shared.hooks import find_module, refuse_training

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # a unit is a row of the weight: not so when transposed
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def unit_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer of that name, whose units are the rows of its weight; one `ValueError` for any other module."""
    module = find_module(model, name)
    if not isinstance(module, LAYERS):
        raise ValueError(
            f"layer {name!r} is a {type(module).__name__}; its units aren't rows: give Linear or Conv layers"
        )
    return module


def check_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks if each is boolean with one entry per unit of its layer; else a `ValueError` that says which isn't."""
    if not masks:
        raise ValueError("masks is empty; give layer -> bool tensor with one entry per unit")
    for name, mask in masks.items():
        check_shape(f"masks[{name!r}]", mask, (len(unit_layer(model, name).weight),))
        if mask.dtype != torch.bool:
            raise ValueError(f"masks[{name!r}] has dtype {mask.dtype}; expected torch.bool")
    return dict(masks)


def _rows(model: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Weight and bias of each layer with its mask, on the parameter's device."""
    owners: dict[nn.Parameter, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(parameter, []).append(name)
    for name, mask in check_masks(model, masks).items():
        module = unit_layer(model, name)
        for parameter in (module.weight, module.bias):
            if parameter is None:
                continue
            if len(owners.get(parameter, [])) != 1:
                raise ValueError(f"masks: the weights of {name!r} are shared or computed ({owners.get(parameter, [])})")
            yield parameter, mask.to(parameter.device)


@contextmanager
def freeze_rows(model: nn.Module, masks: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> Iterator[nn.Module]:
    """While it is open, no step of the optimizer moves the weights and biases of the units in `masks`, bit by bit.

    Zero gradients aren't enough: momentum, Adam's averages and weight decay move a weight without one. So the rows are
    put back after every step; their gradients are zeroed as well, for clipping by the norm.

    Parameters
    ----------
    model : any torch module; batch norms in eval mode only.
    masks : layer (Linear or convolution) -> bool `(units,)`, True where frozen.
    optimizer : any of torch's; it may hold no parameter of a norm, which would move frozen units too.

    Yields
    ------
    The model.

    Raises
    ------
    ValueError
        An unknown layer, a mask of another shape or dtype, shared weights, a batch norm or dropout in training mode, an
        optimizer that holds parameters of a norm or none of the model.
    """
    refuse_training(model)
    rows = list(_rows(model, masks))
    _check_optimizer(model, optimizer)
    with ExitStack() as stack:
        kept = [(parameter, mask, parameter.detach()[mask].clone()) for parameter, mask in rows]
        for parameter, mask, _ in kept:
            if parameter.requires_grad:
                stack.callback(parameter.register_hook(_without(mask)).remove)
        stack.callback(optimizer.register_step_post_hook(lambda *_: _restore(kept)).remove)
        yield model


def _without(mask: Tensor) -> Any:
    return lambda gradient: gradient.masked_fill(mask.reshape(-1, *[1] * (gradient.ndim - 1)), 0)


@torch.no_grad()
def _restore(kept: list[tuple[nn.Parameter, Tensor, Tensor]]) -> None:
    for parameter, mask, before in kept:
        parameter[mask] = before


def _check_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not held & {id(p) for p in model.parameters()}:
        raise ValueError("optimizer holds no parameter of model; build it from model.parameters()")
    for name, module in model.named_modules():
        if isinstance(module, NORMS) and held & {id(p) for p in module.parameters(recurse=False)}:
            raise ValueError(f"optimizer holds the parameters of {name!r} ({type(module).__name__}); leave them out")


def subnetwork(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """A copy without the other units: their weights and biases are zero.

    What it computes depends on the rows of the units kept alone. With these frozen (`freeze_rows`) it stays the same
    function whatever the other units learn later, in networks with skip connections too (§3, "Remembering").

    Parameters
    ----------
    model : any torch module; batch norms in eval mode only, which make a constant of a unit that is absent.
    masks : layer (Linear or convolution) -> bool `(units,)`, True where kept; other layers are copied whole.

    Returns
    -------
    The copy. The model isn't touched.

    Raises
    ------
    ValueError
        As for `freeze_rows`; a layer in which no unit is kept, which would cut the network in two.
    """
    refuse_training(model)
    if empty := [name for name, mask in check_masks(model, masks).items() if not mask.any()]:
        raise ValueError(f"masks[{empty[0]!r}] keeps no unit of its layer; at least one is needed")
    part = copied("model", model)
    with torch.no_grad():
        for parameter, mask in _rows(part, masks):
            parameter[~mask] = 0
    return part
