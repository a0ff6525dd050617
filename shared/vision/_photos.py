"""Photos into a model's input and back: resizing, normalising, grids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from shared._checks import check_finite, check_range, check_shape


def resize(images: Tensor | Sequence[Tensor], size: int | tuple[int, int] = 224, crop: bool = False) -> Tensor:
    """Images (B, C, H, W), or a list of (C, H, W) of any sizes, as (B, C, size, size): bilinear with antialiasing.

    The whole image is squeezed to the size, or with `crop` its largest central part of the right proportions.
    """
    height, width = (size, size) if isinstance(size, int) else size
    check_range("size", min(height, width), 1)
    batches = [images] if isinstance(images, Tensor) else [image.unsqueeze(0) for image in images]
    if not batches:
        raise ValueError("images is empty; at least one is needed")
    done = []
    for batch in batches:
        check_shape("images", batch, ("B", "C", "H", "W"))
        check_finite("images", batch)
        batch = _central(batch, height / width) if crop else batch
        done.append(interpolate(batch, (height, width), mode="bilinear", antialias=True, align_corners=False))
    return torch.cat(done)


def _central(images: Tensor, proportion: float) -> Tensor:
    """The largest central part whose height is `proportion` times its width."""
    h, w = images.shape[-2:]
    height, width = min(h, round(w * proportion)), min(w, round(h / proportion))
    top, left = (h - height) // 2, (w - width) // 2
    return images[..., top : top + height, left : left + width]


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images − mean) / std by channel, (B, C, H, W) or (C, H, W)."""
    mean, std = _per_channel("images", images, mean=mean, std=std)
    return (images - mean) / std


def denormalise(inputs: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The inverse of `normalise`, clamped to [0, 1] for showing."""
    mean, std = _per_channel("inputs", inputs, mean=mean, std=std)
    return (inputs * std + mean).clamp(0, 1)


def _per_channel(argument: str, images: Tensor, **values: Sequence[float]) -> list[Tensor]:
    if images.ndim not in (3, 4):
        raise ValueError(f"{argument} has shape {tuple(images.shape)}; expected (B, C, H, W) or (C, H, W)")
    check_finite(argument, images)
    for name, value in values.items():
        if len(value) != images.shape[-3]:
            raise ValueError(f"{name} has {len(value)} values for {argument} of {images.shape[-3]} channels")
    return [torch.as_tensor(v, dtype=images.dtype, device=images.device)[:, None, None] for v in values.values()]


def grid(images: Tensor, columns: int = 2) -> Tensor:
    """Scenes of several images each: (B, M, C, H, W) as (B, C, rows·H, columns·W), cell m at row m // columns.

    Masks go the same way as (B, M, 1, H, W). M must be a multiple of `columns`.
    """
    check_shape("images", images, ("B", "M", "C", "H", "W"))
    check_finite("images", images)
    b, m, c, h, w = images.shape
    if columns < 1 or m % columns:
        raise ValueError(f"columns={columns} doesn't divide the {m} images of a scene")
    rows = m // columns
    cells = images.reshape(b, rows, columns, c, h, w).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(b, c, rows * h, columns * w)


def cell_mask(cell: Tensor, shape: tuple[int, int], columns: int = 2, rows: int = 2) -> Tensor:
    """Where cell `cell` (B,) of each scene is: bool (B, rows·H, columns·W) for images of `shape` (H, W)."""
    check_shape("cell", cell, ("B",))
    check_finite("cell", cell)
    if bool((cell < 0).any()) or bool((cell >= rows * columns).any()):
        raise ValueError(f"cell must be from 0 to {rows * columns - 1}")
    index = torch.arange(rows * columns, device=cell.device).view(rows, columns)
    whole = index.repeat_interleave(shape[0], 0).repeat_interleave(shape[1], 1)
    return whole == cell[:, None, None]
