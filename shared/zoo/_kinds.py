"""What `load_data` returns: one type for each kind of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from shared.zoo._cards import Card, all_cards

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Data:
    """One split of a data set: what all kinds have.

    Parameters
    ----------
    name : the asset's, or the hub id or folder that was read.
    split : which part of it.
    """

    name: str
    split: str

    @property
    def card(self) -> Card | None:
        """The asset's provenance card; None for a hub id or a folder."""
        return all_cards().get(self.name)


@dataclass(frozen=True)
class ImageData(Data):
    """Images of one size.

    Parameters
    ----------
    name, split : as `Data`'s.
    x : images (N, C, H, W), float32 in [0, 1].
    y : classes (N,), int64, or None.
    classes : names of y's values, or None.
    """

    x: Tensor = field(repr=False)
    y: Tensor | None = field(default=None, repr=False)
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class PhotoData(Data):
    """Images of several sizes, or too many of one to be held decoded.

    Parameters
    ----------
    name, split : as `Data`'s.
    x : images (C, H, W), float32 in [0, 1]; a hub's are decoded when they are asked for, so go through them once.
    y : classes (N,), int64, or None.
    classes : names of y's values, or None.
    names : of the images, or None.
    """

    x: Sequence[Tensor] = field(repr=False)
    y: Tensor | None = field(default=None, repr=False)
    classes: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class TableData(Data):
    """Rows of numbers.

    Parameters
    ----------
    name, split : as `Data`'s.
    x : rows (N, D), float32.
    y : classes (N,), int64; or targets (N,) or (N, T), float32; or labels (N, L), int64, each 0 or 1; or None.
    classes : names of y's values, or of its L labels; None for targets.
    features : names of x's columns, or None.
    names : of the rows, or None.
    """

    x: Tensor = field(repr=False)
    y: Tensor | None = field(default=None, repr=False)
    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = field(default=None, repr=False)
    names: tuple[str, ...] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class ArrayData(Data):
    """Arrays by name, of any shapes.

    Parameters
    ----------
    name, split : as `Data`'s.
    arrays : tensors of the types that they are stored in; the card says what they hold.
    """

    arrays: dict[str, Tensor] = field(repr=False)

    def __len__(self) -> int:
        return len(self.arrays)


@dataclass(frozen=True)
class FrameData(Data):
    """Rows of named columns of any type, as a hub's tables are.

    Parameters
    ----------
    name, split : as `Data`'s.
    table : a pandas DataFrame, its columns as in the file.
    """

    table: pd.DataFrame = field(repr=False)

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True)
class TextData(FrameData):
    """Texts, and what is known of each.

    Parameters
    ----------
    name, split : as `Data`'s.
    table : a pandas DataFrame, a row for each text.
    column : of the table, which has the texts.
    """

    column: str = "text"

    @property
    def texts(self) -> list[str]:
        """The texts, in order."""
        return self.table[self.column].tolist()
