"""Photos into a model's input and back: resizing, cropping, normalising, grids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from shared._checks import check_finite, check_range, check_shape


def resize(images: Tensor | Sequence[Tensor], size: int | tuple[int, int], *, crop: bool = False) -> Tensor:
    """Images of any sizes at one size: bilinear with antialiasing.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W), or sequence of Tensor, shape (C, H, W)
    size : int or (int, int)
        Height and width.
    crop : bool
        Take the largest central part of the right proportions; else the whole image is squeezed.

    Returns
    -------
    Tensor, shape (B, C, height, width)
    """
    height, width = (size, size) if isinstance(size, int) else size
    check_range("size", min(height, width), 1)
    if not isinstance(images, Tensor) and not len(images):
        raise ValueError("images is empty; at least one is needed")
    batches = [images] if isinstance(images, Tensor) else (image.unsqueeze(0) for image in images)  # decoded one by one
    done = []
    for batch in batches:
        check_shape("images", batch, ("B", "C", "H", "W"))
        check_finite("images", batch)
        batch = _central(batch, height / width) if crop else batch
        wide = batch.float() if batch.dtype in (torch.float16, torch.bfloat16) else batch  # CPUs resize no halves
        sized = interpolate(wide, (height, width), mode="bilinear", antialias=True, align_corners=False)
        done.append(sized.to(batch.dtype))
    return torch.cat(done)


def _central(images: Tensor, proportion: float) -> Tensor:
    """The largest central part whose height is `proportion` times its width."""
    h, w = images.shape[-2:]
    height = min(h, round(w * proportion))
    width = min(w, round(h / proportion))
    top = (h - height) // 2
    left = (w - width) // 2
    return images[..., top : top + height, left : left + width]


def random_crops(
    image: Tensor, n: int, side: int, *, generator: np.random.Generator, least: int | None = None
) -> tuple[Tensor, Tensor]:
    """Square crops at random places.

    Parameters
    ----------
    image : Tensor, shape (C, H, W)
    n, side : int
        How many, and their size.
    generator : numpy.random.Generator
    least : int, optional
        Crops of any size from this to the image's shorter side are taken and resized; else crops of `side` itself.

    Returns
    -------
    crops : Tensor, shape (n, C, side, side)
    corners : Tensor of int64, shape (n, 2)
        Rows and columns of the upper left pixels.

    Raises
    ------
    ValueError
        For crops larger than the image.
    """
    check_shape("image", image, ("C", "H", "W"))
    check_finite("image", image)
    height, width = image.shape[1:]
    shorter = min(height, width)
    check_range("n", n, 1)
    check_range("side" if least is None else "least", side if least is None else least, 1, shorter)
    sizes = [side] * n if least is None else generator.integers(least, shorter + 1, n).tolist()
    corners = [[int(generator.integers(free - size + 1)) for free in (height, width)] for size in sizes]
    crops = [image[:, top : top + k, left : left + k] for k, (top, left) in zip(sizes, corners)]
    return torch.stack(crops) if least is None else resize(crops, side), torch.tensor(corners)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images − mean) / std by channel.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W) or (C, H, W)
    mean, std : sequence of float
        One of each channel.

    Returns
    -------
    Tensor, of the images' shape
    """
    mean, std = _per_channel("images", images, mean=mean, std=std)
    return (images - mean) / std


def denormalise(inputs: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The inverse of `normalise`, clamped to [0, 1] for showing.

    Parameters
    ----------
    inputs : Tensor, shape (B, C, H, W) or (C, H, W)
    mean, std : sequence of float
        One of each channel.

    Returns
    -------
    Tensor, of the inputs' shape
    """
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


def image_grid(images: Tensor, *, columns: int = 2) -> Tensor:
    """Scenes of several images each, cell m at row m // columns.

    Parameters
    ----------
    images : Tensor, shape (B, M, C, H, W)
        Masks go the same way as (B, M, 1, H, W).
    columns : int
        Divides M.

    Returns
    -------
    Tensor, shape (B, C, M / columns · H, columns · W)
    """
    check_shape("images", images, ("B", "M", "C", "H", "W"))
    check_finite("images", images)
    b, m, c, h, w = images.shape
    if columns < 1 or m % columns:
        raise ValueError(f"columns={columns} doesn't divide the {m} images of a scene")
    rows = m // columns
    cells = images.reshape(b, rows, columns, c, h, w).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(b, c, rows * h, columns * w)


def cell_mask(cell: Tensor, shape: tuple[int, int], *, columns: int = 2, rows: int = 2) -> Tensor:
    """Where one cell of each scene of `image_grid` is.

    Parameters
    ----------
    cell : Tensor of int, shape (B,)
        Number of the cell.
    shape : (int, int)
        Height and width of one image.
    columns, rows : int

    Returns
    -------
    Tensor of bool, shape (B, rows · H, columns · W)
    """
    check_range("columns", columns, 1)
    check_range("rows", rows, 1)
    check_shape("cell", cell, ("B",))
    check_finite("cell", cell)
    if bool((cell < 0).any()) or bool((cell >= rows * columns).any()):
        raise ValueError(f"cell must be from 0 to {rows * columns - 1}")
    index = torch.arange(rows * columns, device=cell.device).view(rows, columns)
    whole = index.repeat_interleave(shape[0], 0).repeat_interleave(shape[1], 1)
    return whole == cell[:, None, None]
