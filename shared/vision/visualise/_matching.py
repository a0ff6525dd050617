"""VITAL's loss: each channel's sorted activations should be those of real images (Görgün et al. 2025, section 3)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from shared._checks import check_array, check_finite, check_shape, wide
from shared.hooks import batches, capture, model_device, refuse_training
from shared.vision.visualise._objectives import Objective, rows_of, tiled

Maps = Callable[[Tensor], Mapping[str, Tensor]]
FEW = 10


def sort_match(z: Tensor, reference: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Mean squared difference of sorted activations: squared Wasserstein-2 distances of the channels' distributions.

    Ranks carry no gradient, so each activation is drawn to the reference value of its own rank.

    Parameters
    ----------
    z : Tensor, shape (B, C, P) or (B, C, H, W)
        Activations.
    reference : Tensor, shape (C, P), (1, C, P) or (B, C, P)
        Ascending along its last axis; for each image its own, or one for all.
    weight : Tensor, shape (C,) or (B, C), optional
        Of the channels.

    Returns
    -------
    Tensor, shape (B,)
    """
    if z.ndim not in (3, 4):
        raise ValueError(f"z has shape {tuple(z.shape)}; expected (B, C, P) or (B, C, H, W)")
    check_finite("z", z)
    z = z.flatten(2)
    b, c, p = z.shape
    reference = reference[None] if reference.ndim == 2 else reference
    check_array("reference", reference, (1 if len(reference) == 1 else b, c, p))
    if bool((reference.diff(dim=-1) < 0).any()):
        raise ValueError("reference isn't sorted; it must ascend along its last axis")
    if weight is not None:
        weight = weight[None] if weight.ndim == 1 else weight
        check_array("weight", weight, (1 if len(weight) == 1 else b, c))
    return _distance(z, reference, weight)


def _distance(z: Tensor, reference: Tensor, weight: Tensor | None) -> Tensor:
    goal = torch.empty_like(z).scatter_(-1, _order(z), reference.to(z).expand_as(z))  # to each value that of its rank
    per_channel = (z - goal).square().mean(-1)
    return (per_channel if weight is None else per_channel * weight.to(z)).mean(-1)


def _order(z: Tensor) -> Tensor:
    """`z.argsort(-1)`; on a CPU by numpy, whose vectorised sort takes a fifth of the time."""
    if z.device.type != "cpu":
        return z.detach().argsort(-1)
    plain = z.detach().float() if z.dtype in (torch.float16, torch.bfloat16) else z.detach()
    return torch.from_numpy(np.argsort(plain.numpy(), -1))


def _ascending(z: Tensor) -> Tensor:
    """`z.sort(-1).values`; on a CPU by numpy, whose sort of values is faster still than that of indices."""
    if z.device.type != "cpu":
        return z.detach().sort(-1).values
    plain = z.detach().float() if z.dtype in (torch.float16, torch.bfloat16) else z.detach()
    return torch.from_numpy(np.sort(plain.numpy(), -1)).to(z)


def sorted_features(
    model: nn.Module,
    layers: Iterable[str],
    images: Tensor,
    *,
    groups: Tensor | None = None,
    relevance: Callable[[Tensor, Tensor], Mapping[str, Tensor]] | None = None,
    channel_axis: int = 1,
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """References for `matching`: sort each image's activations by channel, then average over the images of a group.

    Parameters
    ----------
    model : nn.Module
        In eval mode.
    layers : iterable of str
    images : Tensor, shape (N, C, H, W)
        As the model takes them.
    groups : LongTensor, shape (N,), optional
        Which target each image is a reference of, from 0 without a gap; else all of one.
    relevance : callable, optional
        Images and their groups -> maps by layer, by which activations are multiplied first (`unit_range`).
    channel_axis : int
        Of the layers' outputs; -1 for transformers.
    batch_size : int

    Returns
    -------
    dict of Tensor, shape (groups, C, P)
        By layer.

    Warns
    -----
    UserWarning
        A group of fewer than ten images: its quantiles are noisy.
    """
    check_array("images", images, ("N", "C", "H", "W"))
    refuse_training(model)
    layers = [layers] if isinstance(layers, str) else list(layers)
    groups = torch.zeros(len(images), dtype=torch.long) if groups is None else groups
    check_shape("groups", groups, (len(images),))
    whole = not groups.is_floating_point() and int(groups.min()) >= 0
    counts = torch.bincount(groups.cpu()) if whole else groups.new_zeros(1)
    if not bool(counts.all()):
        raise ValueError("groups must be integers from 0, none of them without images")
    if int(counts.min()) < FEW:
        warnings.warn(f"groups: the smallest has {int(counts.min())} images; quantiles want ten", stacklevel=2)
    sums: dict[str, Tensor] = {}
    for x, g in zip(batches(images, batch_size, argument="images"), groups.split(batch_size)):
        device = model_device(model) or x.device
        x, g = x.to(device), g.to(device)
        with torch.no_grad(), capture(model, layers) as seen:
            model(x)
        maps = {} if relevance is None else relevance(x, g)
        for layer in layers:
            rows = rows_of(seen[layer] * maps[layer] if layer in maps else seen[layer], channel_axis)
            rows = wide(_ascending(rows))  # sums of many images overflow half precision
            empty = rows.new_zeros(len(counts), *rows.shape[1:])
            sums[layer] = sums.get(layer, empty).index_add(0, g, rows)
    return {layer: (total / counts.to(total)[:, None, None]).float() for layer, total in sums.items()}


def matching(
    references: Mapping[str, Tensor],
    *,
    weights: Mapping[str, float] | None = None,
    importance: Mapping[str, Tensor] | None = None,
    relevance: Maps | None = None,
    channel_axis: int = 1,
) -> Objective:
    """VITAL's objective: the sum over layers of weighted `sort_match` losses.

    Parameters
    ----------
    references : mapping of Tensor, shape (n, C, P) or (1, C, P)
        By layer, of `sorted_features`; one for each image, or one for all.
    weights : mapping of float, optional
        By layer; 1 where none is said.
    importance : mapping of Tensor, shape (n, C), optional
        Weights of channels by layer.
    relevance : callable, optional
        Images -> maps by layer that activations are multiplied by; recomputed in every step, without a gradient.
    channel_axis : int
        Of the layers' outputs; -1 for transformers.

    Returns
    -------
    Objective
    """
    if not references:
        raise ValueError("references is empty; at least one layer is needed")
    for layer, reference in references.items():
        check_array(f"references[{layer!r}]", reference, ("n", "C", "P"))
    sizes = {len(r) for r in references.values()} - {1}
    if len(sizes) > 1:
        raise ValueError(f"references are for different numbers of images: {sorted(sizes)}")
    known, weigh = importance or {}, weights or {}
    for name, given in (("weights", weigh), ("importance", known)):
        if lost := set(given) - set(references):
            raise ValueError(f"{name} names {', '.join(sorted(lost))}; references has {', '.join(references)}")
    for layer, weight in known.items():
        check_array(f"importance[{layer!r}]", weight, ("n", references[layer].shape[1]))

    def loss(seen: Mapping[str, Tensor], output: Tensor, images: Tensor) -> Tensor:
        maps = relevance(images.detach()) if relevance is not None else {}
        total = images.new_zeros(len(images))
        for layer, reference in references.items():
            activation = seen[layer] * maps[layer].detach() if layer in maps else seen[layer]
            z = rows_of(activation, channel_axis)
            if z.shape[1:] != reference.shape[1:]:
                raise ValueError(
                    f"references[{layer!r}] is of {tuple(reference.shape[1:])} channels and positions; these images "
                    f"give {tuple(z.shape[1:])}: make both of one size"
                )
            weight = tiled(known[layer], len(z)) if layer in known else None
            total = total + weigh.get(layer, 1.0) * _distance(z, tiled(reference.to(z), len(z)), weight)
        return total

    return Objective(tuple(references), loss, sizes.pop() if sizes else None)


def unit_range(relevance: Tensor) -> Tensor:
    """Relevance maps stretched to [0, 1] over the positions of each image and channel; constant ones become 0.

    Parameters
    ----------
    relevance : Tensor, shape (B, C, H, W)

    Returns
    -------
    Tensor, of the same shape
    """
    check_array("relevance", relevance, ("B", "C", "H", "W"))
    low, high = relevance.amin((2, 3), keepdim=True), relevance.amax((2, 3), keepdim=True)
    return torch.where(high > low, (relevance - low) / (high - low).clamp(min=torch.finfo(relevance.dtype).tiny), 0.0)
