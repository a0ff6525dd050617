"""What single channels stand for: their relevance, the samples on which each is strongest, and crops of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_array, check_choice, check_range, check_shape
from shared.hooks import AxisFinder, batches, capture, count_rows, refuse_training, run_model, take_rows
from shared.lrp._attribute import attribute
from shared.lrp.rules._composite import Composite

BANKS = ("relevance", "activation")
REDUCTIONS = ("max", "sum")


def channel_relevance(relevance: Tensor, *, channel_axis: int = 1, normalise: bool = True) -> Tensor:
    """Relevance of whole channels: the sum over positions (Achtibat et al. 2023), as a share of the layer's.

    Parameters
    ----------
    relevance : a layer's relevance, `(B, C, …)` or with the channels on another axis: `attribute(...).latent[name]`.
    channel_axis : where the channels are.
    normalise : divide each row by `Σ|R_c|`, so that its absolute values sum to 1; a row of zeros stays.

    Returns
    -------
    `(B, C)`, float32 or wider.

    Raises
    ------
    ValueError
        Fewer than two axes, no such axis, NaN.
    """
    if not isinstance(relevance, Tensor) or relevance.ndim < 2 or not relevance.is_floating_point():
        raise ValueError(f"relevance must be a float tensor (B, C, …); got {_described(relevance)}")
    check_array("relevance", relevance, (None,) * relevance.ndim)
    check_range("channel_axis", channel_axis, -relevance.ndim, relevance.ndim - 1)
    axis = channel_axis % relevance.ndim
    check_range("channel_axis", axis, 1)
    wide = relevance.float() if relevance.dtype in (torch.float16, torch.bfloat16) else relevance
    total = wide.movedim(axis, 1).reshape(len(wide), wide.shape[axis], -1).sum(2)
    if not normalise:
        return total
    size = total.abs().sum(1, keepdim=True)
    return total / torch.where(size == 0, torch.ones_like(size), size)


class ReferenceBank:
    """Per channel the k samples of a data set on which it is strongest, kept while batches pass by.

    Of activations these are the reference samples of activation maximisation (ActMax), of relevances those of
    relevance maximisation (RelMax; Achtibat et al. 2023). Only positive values count: a channel that never fires has
    no references. Ties go to the sample that was seen first.

    Parameters
    ----------
    k : samples kept per channel.
    reduce : of maps `(B, C, …)`, the "max" or the "sum" over positions ranks a sample.

    Attributes
    ----------
    values : `(C, k)`, strongest first; 0 where there are fewer.
    rows : `(C, k)` int64, the samples' numbers; −1 where there are fewer.
    positions : `(C, k)` int64, the strongest position in the flattened map (0 for `(B, C)`); −1 likewise.
    """

    def __init__(self, *, k: int = 40, reduce: str = "max") -> None:
        check_range("k", k, 1)
        self.k, self.reduce = k, check_choice("reduce", reduce, REDUCTIONS)
        self.values = torch.zeros(0, k)
        self.rows = torch.full((0, k), -1)
        self.positions = torch.full((0, k), -1)
        self.seen = 0

    def update(self, values: Tensor, *, rows: Tensor | None = None, channel_axis: int = 1) -> ReferenceBank:
        """Merge a batch.

        Parameters
        ----------
        values : activation or relevance, `(B, C)` or `(B, C, …)`.
        rows : the samples' numbers, int64 `(B,)`; by default they are counted on from the last batch.
        channel_axis : where the channels are.

        Returns
        -------
        Itself.

        Raises
        ------
        ValueError
            NaN, another number of channels than before, rows of another length.
        """
        if not isinstance(values, Tensor) or values.ndim < 2 or not values.is_floating_point():
            raise ValueError(f"values must be a float tensor (B, C, …); got {_described(values)}")
        check_range("channel_axis", channel_axis, -values.ndim, values.ndim - 1)
        check_array("values", values, (None,) * values.ndim)
        maps = values.detach().movedim(channel_axis, 1).flatten(2) if values.ndim > 2 else values.detach()[:, :, None]
        if self.seen and maps.shape[1] != len(self.values):
            raise ValueError(f"values has {maps.shape[1]} channels; earlier batches had {len(self.values)}")
        if rows is None:
            rows = torch.arange(self.seen, self.seen + len(maps))
        check_shape("rows", rows, (len(maps),))
        if not self.seen:
            self._start(maps)
        self.seen += len(maps)
        self._merge(maps, rows.to(maps.device))
        return self

    def _start(self, maps: Tensor) -> None:
        channels = maps.shape[1]
        dtype = torch.float32 if maps.dtype in (torch.float16, torch.bfloat16) else maps.dtype
        self.values = torch.zeros(channels, self.k, dtype=dtype, device=maps.device)
        self.rows = torch.full((channels, self.k), -1, device=maps.device)
        self.positions = self.rows.clone()

    def _merge(self, maps: Tensor, rows: Tensor) -> None:
        strongest, where = maps.max(2)
        ranked = (strongest if self.reduce == "max" else maps.sum(2, dtype=self.values.dtype)).T.to(self.values.dtype)
        found = ranked > 0
        value = torch.cat([self.values, torch.where(found, ranked, torch.zeros_like(ranked))], 1)
        row = torch.cat([self.rows, torch.where(found, rows, -1)], 1)
        position = torch.cat([self.positions, torch.where(found, where.T, -1)], 1)
        order = value.argsort(dim=1, descending=True, stable=True)[:, : self.k]
        self.values, self.rows, self.positions = (part.gather(1, order) for part in (value, row, position))


def reference_banks(
    model: nn.Module,
    layers: Iterable[str] | str,
    x: Any,
    target: Any = None,
    *,
    of: str = "relevance",
    k: int = 40,
    reduce: str = "max",
    composite: Composite | None = None,
    channel_axis: int | Mapping[str, int] | None = None,
    batch_size: int = 64,
) -> dict[str, ReferenceBank]:
    """Reference samples of every channel of the layers, in one pass over the data.

    Parameters
    ----------
    model : any torch module in eval mode.
    layers : modules whose output has channels.
    x : what the model takes, N rows; their numbers are what the banks hold.
    target : for relevance, as for `attribute`: int, LongTensor `(N,)`, or None for each row's largest logit.
    of : "relevance" (RelMax) or "activation" (ActMax).
    k : as for `ReferenceBank`.
    reduce : as for `ReferenceBank`.
    composite : rules of the relevance, as for `attribute`.
    channel_axis : axis of the channels, or layer -> axis, where modules don't tell.
    batch_size : rows in one pass.

    Returns
    -------
    Layer -> `ReferenceBank`.

    Raises
    ------
    ValueError
        No layers, an unknown one; several targets; a model in training mode.
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    check_choice("of", of, BANKS)
    if not names:
        raise ValueError("layers is empty; give names of modules")
    if isinstance(target, list | tuple):
        raise ValueError(f"target must be one per row, not a {type(target).__name__} of several")
    refuse_training(model)
    axes = channel_axis if isinstance(channel_axis, Mapping) else dict.fromkeys(names, channel_axis)
    finders = {name: AxisFinder(model, name, channel_axis=axes.get(name)) for name in names}
    banks = {name: ReferenceBank(k=k, reduce=reduce) for name in names}
    per_row = isinstance(target, Tensor) and target.ndim > 0
    if per_row and len(target) != count_rows(x):
        raise ValueError(f"target has {len(target)} entries for {count_rows(x)} rows of x")
    for start, part in zip(range(0, count_rows(x), batch_size), batches(x, batch_size)):
        if of == "relevance":
            goal = take_rows(target, slice(start, start + batch_size)) if per_row else target
            options = {"composite": composite, "record": names, "channel_axis": channel_axis}
            found = attribute(model, part, goal, **options).latent
        else:
            with torch.no_grad(), capture(model, names) as found:
                run_model(model, part)
        for name, bank in banks.items():
            bank.update(found[name], channel_axis=finders[name](found[name]))
    return banks


def crop_to_relevance(
    images: Tensor, heatmaps: Tensor, *, threshold: float = 0.02, blur: int = 1, min_size: int = 1
) -> list[Tensor]:
    """Cut each image to the box that holds its relevance: how reference samples are shown (Achtibat et al. 2023).

    Parameters
    ----------
    images : `(B, C, H, W)`, or volumes `(B, C, D, H, W)`.
    heatmaps : `(B, H, W)` or `(B, D, H, W)`.
    threshold : pixels count whose absolute relevance is above this share of the image's largest.
    blur : side of the (odd) window over which absolute relevance is averaged first.
    min_size : smallest side of a box, which grows around its centre and stays inside the image.

    Returns
    -------
    B tensors `(C, h, w)` or `(C, d, h, w)`, views into the images; an image without relevance comes whole.

    Raises
    ------
    ValueError
        Shapes that don't belong together, a threshold outside [0, 1), an even blur, a box larger than the image.
    """
    volumes = isinstance(images, Tensor) and images.ndim == 5
    check_array("images", images, ("B", "C", *("D" if volumes else ""), "H", "W"))
    check_array("heatmaps", heatmaps, (len(images), *images.shape[2:]))
    check_range("threshold", threshold, 0, 1 - 1e-9)
    check_range("min_size", min_size, 1, min(images.shape[2:]))
    if blur < 1 or blur % 2 == 0 or blur > min(images.shape[2:]):
        raise ValueError(f"blur={blur!r} must be odd and at most the image's smaller side, {min(images.shape[2:])}")
    size, pool = (
        heatmaps.detach().abs().float()[:, None],
        nn.functional.avg_pool3d if volumes else nn.functional.avg_pool2d,
    )
    size = pool(size, blur, 1, blur // 2, count_include_pad=False)[:, 0]
    above = size > threshold * size.flatten(1).amax(1).view(-1, *[1] * (size.ndim - 1))
    crops = []
    for image, mask in zip(images, above):
        axes = range(mask.ndim)
        box = [_span(mask.amax([a for a in axes if a != axis]), min_size) for axis in axes]
        crops.append(image[(slice(None), *(slice(*span) for span in box))])
    return crops


def _span(hit: Tensor, least: int) -> tuple[int, int]:
    """First and one past the last True, at least `least` apart and inside; everything where nothing is True."""
    where = hit.nonzero()
    if not len(where):
        return 0, len(hit)
    low, high = int(where[0]), int(where[-1]) + 1
    missing = max(least - (high - low), 0)
    low = min(max(low - missing // 2, 0), len(hit) - max(high - low, least))
    return low, max(high, low + least)


def _described(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
