"""Which units serve which classes, and by which inputs: counts and mean relevance vectors in one pass over the data."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared._checks import check_array, check_range, check_shape, wide
from shared.circuits._nodes import channel_scores
from shared.circuits._rewire import SPATIAL, check_layer
from shared.hooks import capture, count_rows, find_module
from shared.lrp import Composite


@dataclass(frozen=True, eq=False)
class ClassRelevance:
    """What the units of a layer are to each class (Hesse et al. 2025, section 3).

    Attributes
    ----------
    counts : Tensor
        Shape (classes, units): images of the class for which the unit is important.
    images : Tensor
        Shape (classes,): images seen.
    taps : Tensor
        Shape (classes, inputs, kernel positions), float64: mean over images of what each weight is multiplied with,
        summed over positions. It serves the vectors of all units at once.
    weight : Tensor
        Shape (units, inputs, kernel positions): the layer's.
    """

    counts: Tensor
    images: Tensor
    taps: Tensor
    weight: Tensor

    def important(self, *, share: float = 0.75) -> Tensor:
        """For which classes each unit is important: for at least this share of their images.

        Parameters
        ----------
        share : p of the paper, in [0, 1]; at 0 every unit of a class that was seen.

        Returns
        -------
        bool (classes, units); False for a class without images.

        Raises
        ------
        ValueError
            A share outside [0, 1].
        """
        check_range("share", share, 0, 1)
        return (self.counts >= share * self.images[:, None]) & (self.images[:, None] > 0)

    def vectors(self, unit: int) -> Tensor:
        """Average relevance vectors of a unit: mean contribution of every input to its summed pre-activation.

        Parameters
        ----------
        unit : number of the unit.

        Returns
        -------
        (classes, inputs), float64; NaN for a class without images.

        Raises
        ------
        ValueError
            A unit the layer hasn't.
        """
        check_range("unit", unit, 0, len(self.weight) - 1)
        return (self.taps * self.weight[unit]).sum(2)


def class_relevance(
    model: nn.Module, layer: str, data: Iterable[tuple[Tensor, Tensor]], *, n_classes: int, threshold: float = 0.03
) -> ClassRelevance:
    """One pass over labelled images: where each unit is important, and the inputs' mean contributions by class.

    A unit is important for an image if its gradient × pre-activation for the labelled class, summed over positions, is
    at least `threshold` of the positive sum over all units. Only sums are kept, of all images.

    Parameters
    ----------
    model : any torch module in eval mode that gives logits (B, classes).
    layer : an `nn.Linear` or plain convolution, before normalisation and non-linearity.
    data : batches of images (B, …) and their classes (B,), such as a loader gives.
    n_classes : number of classes.
    threshold : τ, share of the positive relevance.

    Returns
    -------
    Counts and means.

    Raises
    ------
    ValueError
        An unknown layer or one without a linear sum; no batches; classes that aren't whole numbers below `n_classes`.
    """
    module = find_module(model, layer)
    check_layer(module)
    check_range("n_classes", n_classes, 1)
    check_range("threshold", threshold, 0, 1)
    weight = (
        wide(module.weight.detach()).flatten(2) if SPATIAL[type(module)] else wide(module.weight.detach())[..., None]
    )
    counts = weight.new_zeros(n_classes, len(weight), dtype=torch.long)
    images, taps = counts.new_zeros(n_classes), weight.new_zeros(n_classes, *weight.shape[1:])
    for x, y in data:
        check_shape("data: classes", y, (count_rows(x, argument="data"),))
        if y.is_floating_point() or not 0 <= int(y.min()) <= int(y.max()) < n_classes:
            raise ValueError(
                f"data: classes must be whole numbers from 0 to {n_classes - 1}; got {y.dtype}, {y.tolist()}"
            )
        with capture(model, layer, at="input") as seen:
            scores = channel_scores(model, layer, x, y, composite=Composite([]), batch_size=len(x))[layer]
        rows = y.to(counts.device)
        least = threshold * scores.clamp(min=0).sum(1, keepdim=True)
        counts.index_add_(0, rows, ((scores > 0) & (scores >= least)).long())  # a bar of 0 lets no dead unit in
        images.index_add_(0, rows, torch.ones_like(rows))
        taps.index_add_(0, rows, _taps(module, seen[layer].detach()))
    if not int(images.sum()):
        raise ValueError("data has no batches; give at least one")
    return ClassRelevance(counts, images, taps / images[:, None, None], weight)


def input_contributions(layer: nn.Module, inputs: Tensor, *, units: Iterable[int]) -> Tensor:
    """What every input gives to the summed pre-activation of chosen units, without the bias.

    Parameters
    ----------
    layer : as for `SplitLayer`.
    inputs : what it takes, a batch; of linear layers (B, …, inputs).
    units : numbers of units.

    Returns
    -------
    (B, units, inputs), detached: gradient × input of each unit's sum over positions.

    Raises
    ------
    ValueError
        A layer without a linear sum; inputs of another shape; a unit the layer hasn't.
    """
    check_layer(layer)
    spatial, chosen = SPATIAL[type(layer)], list(units)
    shape = ("B", layer.weight.shape[1], *[None] * spatial)
    if inputs.ndim < 2:
        raise ValueError(f"inputs has shape {tuple(inputs.shape)}; expected (B, …, {layer.weight.shape[1]})")
    check_array("inputs", inputs, shape if spatial else (*inputs.shape[:-1], layer.weight.shape[1]))
    for unit in chosen:
        check_range("units", unit, 0, len(layer.weight) - 1)
    weight = wide(layer.weight.detach()[chosen])
    weight = weight.flatten(2) if spatial else weight[..., None]
    return torch.einsum("uit,bit->bui", weight, _taps(layer, inputs.detach())).to(inputs.dtype)


def _taps(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What each weight is multiplied with, summed over positions: `(B, inputs, kernel positions)`, float64."""
    values = wide(inputs)
    if not SPATIAL[type(layer)]:
        return values.reshape(len(values), -1, values.shape[-1]).sum(1)[..., None]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    values = F.pad(values, layer._reversed_padding_repeated_twice, mode=mode)
    reach = [step * (size - 1) for step, size in zip(layer.dilation, layer.kernel_size)]

    def under(tap: tuple[int, ...]) -> Tensor:
        """The sum of all values that this position of the kernel meets."""
        starts = [step * place for step, place in zip(layer.dilation, tap)]
        ends = [size - far + start for size, far, start in zip(values.shape[2:], reach, starts)]
        return values[(..., *map(slice, starts, ends, layer.stride))].flatten(2).sum(2)

    return torch.stack([under(tap) for tap in itertools.product(*map(range, layer.kernel_size))], 2)
