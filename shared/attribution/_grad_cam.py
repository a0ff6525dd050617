"""Grad-CAM: a layer's maps weighted by their mean gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from shared._checks import check_finite, check_shape
from shared.hooks import capture, find_channel_axis
from shared.lrp.engine import Inputs, Part, check_ready, explained_logits, frozen, parts_of, weights_of


def grad_cam(
    model: nn.Module,
    layer: str,
    x: Tensor,
    target: Any = None,
    *,
    grid: tuple[int, int] | None = None,
    channel_axis: int | None = None,
    relu: bool = False,
    output: str | Callable[[Any], Tensor] | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017): the sum over a layer's channels, each weighted by its mean gradient.

    Parameters
    ----------
    model : any torch module in eval mode.
    layer : name of the module whose output is weighted: the last feature map, or a transformer block's input norm.
    x : images `(B, C, H, W)`.
    target : as for `lrp.attribute`; a list gives a leading axis, over one forward pass.
    grid : rows and columns of patches where the layer gives tokens `(B, S, D)`; tokens before the last
        rows x columns ones (the class token) are left out.
    channel_axis : axis of the channels of maps, where the module doesn't tell.
    relu : keep positive values only, as the paper does; signed values compare between classes.
    output : as for `lrp.attribute`.
    batch_size : images in one pass; the numbers are the same for any.

    Returns
    -------
    `(B, 1, H, W)`, interpolated bilinearly to the images' size.

    Raises
    ------
    ValueError
        Bad input, or a layer whose output is no map and no grid is given.
    """
    check_ready(model)
    check_shape("x", x, ("B", "C", "H", "W"))
    check_finite("x", x)
    many = isinstance(target, list | tuple)

    def logits(part: Part) -> Tensor:
        return explained_logits(Inputs(model, part.x), output, None).detach()

    with frozen(model):
        parts = [
            _cams(model, layer, part, output, grid, channel_axis)
            for part in parts_of(model, x, target, batch_size=batch_size, logits=logits)
        ]
    cam = torch.cat(parts, 1)  # (K, B, 1, h, w)
    cam = cam.clamp(min=0) if relu else cam
    cam = interpolate(cam.flatten(0, 1), x.shape[2:], mode="bilinear").unflatten(0, cam.shape[:2])
    return cam if many else cam[0]


def _cams(
    model: nn.Module, layer: str, part: Part, output: Any, grid: tuple[int, int] | None, channel_axis: int | None
) -> Tensor:
    """`(K, B, 1, h, w)` of some images."""
    with capture(model, layer, detach=False) as seen:
        logits = explained_logits(Inputs(model, part.x), output, None)
    maps = seen[layer]
    targets = part.target if isinstance(part.target, list | tuple) else [part.target]
    seeds = torch.stack([weights_of(one, logits.detach()) for one in targets])
    (slope,) = torch.autograd.grad(logits, maps, seeds, is_grads_batched=True)
    axis = maps.ndim - 1 if grid is not None else find_channel_axis(model, layer, maps, channel_axis=channel_axis)
    maps, slope = (_as_maps(t, layer, axis, grid, lead) for lead, t in enumerate((maps, slope)))
    return (slope.mean((-2, -1), keepdim=True) * maps).sum(-3, keepdim=True).detach()


def _as_maps(t: Tensor, layer: str, axis: int, grid: tuple[int, int] | None, lead: int) -> Tensor:
    """Channels before rows and columns; `lead` axes stand before the batch."""
    if grid is None:
        if t.ndim - lead != 4:
            shape = tuple(t.shape[lead:])
            raise ValueError(f"layer={layer!r} gives {shape}; expected maps with two axes of places, or say grid")
        return t.movedim(axis + lead, -3)
    height, width = grid
    if t.ndim - lead != 3 or t.shape[-2] < height * width:
        raise ValueError(f"layer={layer!r} gives {tuple(t.shape[lead:])}; grid={grid} needs tokens (B, S, D)")
    patches = t[..., t.shape[-2] - height * width :, :]
    return patches.transpose(-1, -2).unflatten(-1, grid)
