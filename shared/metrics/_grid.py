"""Grid pointing game: how much of an attribution falls into the cell of a grid image that shows the explained class.

Böhle, Fritz and Schiele 2021, "Convolutional Dynamic Alignment Networks" (arXiv 2104.00032), and Rao, Böhle and Schiele
2022, "Towards Better Understanding Attribution Methods" (arXiv 2205.10435). The score is the share of the positive
attribution, which quantus calls attribution localisation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared._checks import check_finite, check_range, wide


def grid_pointing_game(
    attribution: Tensor, cell: int | Tensor, *, columns: int = 2, rows: int = 2, empty: float | None = None
) -> Tensor:
    """Share of the positive attribution inside the target's cell.

    Parameters
    ----------
    attribution : (B, H, W) or (B, C, H, W)
        Signed; of channels the positive parts are added. H and W are multiples of `rows` and `columns`.
    cell : int or LongTensor (B,)
        The target's cell, from 0 at the upper left along rows, as `shared.vision.image_grid` places images.
    columns, rows : int
        Cells across and down.
    empty : float, optional
        Score of a map without positive attribution; by default chance, 1 / (rows · columns).

    Returns
    -------
    (B,) float64
        From 0 to 1, higher is better.

    Raises
    ------
    ValueError
        For other shapes, NaN or infinity, cells out of range.
    """
    check_range("columns", columns, 1)
    check_range("rows", rows, 1)
    energy = cell_energy(attribution, columns=columns, rows=rows)
    index = torch.as_tensor(cell, device=energy.device)
    if index.is_floating_point() or index.dtype == torch.bool or index.ndim > 1:
        raise ValueError(f"cell must be an int or a LongTensor (B,); got {index.dtype} of shape {tuple(index.shape)}")
    if index.ndim == 1 and len(index) != len(energy):
        raise ValueError(f"cell has {len(index)} entries for a batch of {len(energy)}")
    if int(index.min()) < 0 or int(index.max()) >= rows * columns:
        raise ValueError(f"cell={cell!r} is out of range; accepted: 0 to {rows * columns - 1}")
    total = energy.sum(1)
    inside = energy.gather(1, index.expand(len(energy))[:, None])[:, 0]
    fallback = 1 / (rows * columns) if empty is None else empty
    return torch.where(total > 0, inside / torch.where(total > 0, total, 1.0), fallback)


def cell_energy(attribution: Tensor, *, columns: int = 2, rows: int = 2) -> Tensor:
    """Sum of the positive attribution in each cell.

    Parameters
    ----------
    attribution : (B, H, W) or (B, C, H, W)
        Signed; of channels the positive parts are added. H and W are multiples of `rows` and `columns`.
    columns, rows : int
        Cells across and down.

    Returns
    -------
    (B, rows · columns) float64
        Cells from the upper left along rows.

    Raises
    ------
    ValueError
        For other shapes, NaN or infinity.
    """
    check_range("columns", columns, 1)
    check_range("rows", rows, 1)
    if attribution.ndim not in (3, 4):
        raise ValueError(f"attribution has shape {tuple(attribution.shape)}; expected (B, H, W) or (B, C, H, W)")
    check_finite("attribution", attribution)
    height, width = attribution.shape[-2:]
    if height % rows or width % columns:
        raise ValueError(
            f"attribution is {height} x {width}; a grid of {rows} x {columns} cells needs multiples of these"
        )
    positive = attribution.detach().to(torch.promote_types(attribution.dtype, torch.float32)).clamp(min=0)
    lines = positive.reshape(len(positive), -1, height, columns, width // columns).sum(4)
    return wide(lines).view(len(lines), -1, rows, height // rows, columns).sum((1, 3)).flatten(1)
