"""Encoded pictures that are decoded when they are asked for, one at a time."""

from __future__ import annotations

import io
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import Tensor

from shared.zoo._assets import AssetError

if TYPE_CHECKING:
    from PIL.Image import Image

_ORIENTATION = 0x0112  # EXIF's tag; its values from 5 on exchange height and width
_HIGHEST = 2**16 - 1
_UNDECODABLE = (OSError, SyntaxError, ValueError)  # what PIL raises for broken files


@dataclass(frozen=True)
class Span:
    """Bytes within a file, such as a member of an archive."""

    path: Path
    start: int
    size: int

    def read(self) -> bytes:
        """The bytes."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.size)


class Pictures(Sequence[Tensor]):
    """Pictures (C, H, W), float32 in [0, 1], of any sizes; what is kept of each is its encoded bytes or where they lie.

    All are RGB, whatever the files are (grey, CMYK, palette, RGBA), and upright as EXIF says; with `grey` all have one
    channel. Several rows, chosen as in a tensor, are `Pictures` again.
    """

    def __init__(self, cells: Sequence[bytes | Span], name: str, *, grey: bool = False) -> None:
        self._cells = cells
        self._name = name
        self._grey = grey

    def __len__(self) -> int:
        return len(self._cells)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | np.ndarray | Tensor) -> Pictures: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Pictures(self._cells[index], self._name, grey=self._grey)
        if isinstance(index, list | tuple | range) or getattr(index, "ndim", 0):
            return Pictures([self._cells[row] for row in _rows(index)], self._name, grey=self._grey)
        row = operator.index(index)
        if not -len(self) <= row < len(self):
            raise IndexError(f"{self._name} has {len(self)} images; there is no image {row}")
        try:
            pixels = _pixels(self._open(row), "L" if self._grey else "RGB")
        except _UNDECODABLE as error:
            raise AssetError(f"{self._name}: image {row} can't be decoded ({error})") from None
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def common_size(self) -> tuple[int, int] | None:
        """Height and width if all have the same, from the files' headers alone."""
        first = self._size(0)
        return first if all(self._size(row) == first for row in range(1, len(self))) else None

    def stack(self) -> Tensor:
        """All of them, (N, C, H, W); they must have one size."""
        stacked = torch.empty((len(self), *self[0].shape))
        for row in range(len(self)):
            stacked[row] = self[row]
        return stacked

    def _size(self, row: int) -> tuple[int, int]:
        try:
            image = self._open(row)
        except _UNDECODABLE as error:
            raise AssetError(f"{self._name}: image {row} can't be decoded ({error})") from None
        width, height = image.size
        return (width, height) if image.getexif().get(_ORIENTATION, 1) >= 5 else (height, width)

    def _open(self, row: int) -> Image:
        """The picture with its header read, not yet decoded."""
        from PIL import Image

        cell = self._cells[row]
        return Image.open(io.BytesIO(cell.read() if isinstance(cell, Span) else cell))


def _rows(index: Sequence[int] | np.ndarray | Tensor) -> list[int]:
    """Rows by number, or those where a mask is true, as a tensor takes them."""
    chosen = torch.as_tensor(index)
    return (chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen).tolist()


def _pixels(image: Image, mode: str) -> np.ndarray:
    """(H, W, C), float32 in [0, 1]."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey, which `convert` would clip at 255
        grey = np.asarray(image, dtype=np.float32)[..., None] / _HIGHEST
        return grey if mode == "L" else grey.repeat(3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    pixels = np.asarray(image.convert(mode), dtype=np.float32) / 255
    return pixels[..., None] if mode == "L" else pixels
