"""A hub data set as the kind of data that it is: which of its columns are images, labels and texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_choice, check_range
from shared.zoo._assets import AssetError
from shared.zoo._kinds import Data, FrameData, ImageData, PhotoData, TableData, TextData
from shared.zoo.hub._fetch import data_files
from shared.zoo.hub._pictures import Pictures, Span
from shared.zoo.hub._shards import config_files, read_arrays, read_table, split_files

if TYPE_CHECKING:
    import pandas as pd

# Names that columns have on the hub; the first that a table has is taken.
COLUMNS = {
    "image": ("image", "img", "jpg", "png", "picture", "photo"),
    "label": ("label", "labels", "fine_label", "cls", "class", "target"),
    "text": ("text", "sentence", "content", "document", "caption"),
}
GREY = ("ylecun/mnist", "zalando-datasets/fashion_mnist")  # sets of grey pictures only: one channel, as shipped ones
_MOST_BYTES = 2e9  # of images of one size as float32; larger sets are decoded image by image


def load_hub_data(
    name: str,
    split: str,
    *,
    revision: str | None = None,
    config: str | None = None,
    rows: int | None = None,
    columns: Mapping[str, str | None] | None = None,
) -> Data:
    """What a hub id or folder holds.

    Parameters
    ----------
    name, split : of the data set.
    revision : branch, tag or commit.
    config : the folder of a set that holds several configurations.
    rows : how many to read, from the first; what lies behind them is neither fetched nor decoded.
    columns : which column is the `image`, `label` or `text`, where it has none of the usual names; None: there is none.

    Returns
    -------
    npz files are `ImageData` or `TableData`. Tables with images are `ImageData` if all have one size and take at most
    2 GB, else `PhotoData`; images of webdataset archives likewise. Other tables are `TextData` or `FrameData`.
    """
    if rows is not None:
        check_range("rows", rows, 1)
    for of in columns or {}:
        check_choice("columns", of, COLUMNS)
    names, bring = data_files(name, revision=revision)
    files = split_files(config_files(names, config, name), split, name)
    paths = map(bring, files)  # one at a time, as far as they are needed
    if files[0].endswith(".npz"):
        x, y = read_arrays(paths, name, rows)
        return ImageData(name, split, x, y) if x.ndim == 4 else TableData(name, split, x, y)
    table, classes = read_table(paths, name, rows)
    image = _image_column(table, name, columns or {})
    if image is None:
        text = _column(table, "text", name, columns or {})
        return FrameData(name, split, table) if text is None else TextData(name, split, table, text)
    label = _label_column(table, name, columns or {})
    y = None if label is None else _labels(table[label], label, name)
    x = Pictures([_encoded(cell, name, row) for row, cell in enumerate(table[image])], name, grey=name in GREY)
    names_of_y = classes.get(label) if label else None
    size = x.common_size()
    if size and _float_bytes(x, size) <= _MOST_BYTES:
        return ImageData(name, split, x.stack(), y, names_of_y)
    return PhotoData(name, split, x, y, names_of_y)


def _float_bytes(x: Pictures, size: tuple[int, int]) -> int:
    return len(x) * 3 * size[0] * size[1] * 4


def _column(table: pd.DataFrame, of: str, name: str, columns: Mapping[str, str | None]) -> str | None:
    """The column of images, labels or texts: the one that was named, else the first with a usual name."""
    if of in columns:
        if columns[of] is not None and columns[of] not in table:
            raise AssetError(f"{name} has no column {columns[of]!r}; it has {', '.join(map(str, table))}")
        return columns[of]
    return next((usual for usual in COLUMNS[of] if usual in table), None)


def _image_column(table: pd.DataFrame, name: str, columns: Mapping[str, str | None]) -> str | None:
    if "image" in columns:
        return _column(table, "image", name, columns)
    holding = [column for column in table if any(map(_is_image, table[column].head(1)))]
    image = _column(table[holding], "image", name, columns)
    if image is None and holding:
        raise AssetError(_unknown("images", "image", holding[0], name, table))
    return image


def _label_column(table: pd.DataFrame, name: str, columns: Mapping[str, str | None]) -> str | None:
    label = _column(table, "label", name, columns)
    whole = table.select_dtypes("integer").columns
    if label is None and len(whole) and "label" not in columns:
        raise AssetError(_unknown("labels", "label", whole[0], name, table))
    return label


def _unknown(what: str, of: str, likely: str, name: str, table: pd.DataFrame) -> str:
    return (
        f"{name} has its {what} in no column of a usual name ({', '.join(COLUMNS[of])}); its columns are "
        f"{', '.join(map(str, table))}: say which, as in columns={{{of!r}: {likely!r}}}, or None if there is none"
    )


def _is_image(cell: object) -> bool:
    return isinstance(cell, Span) or (isinstance(cell, dict) and isinstance(cell.get("bytes"), bytes))


def _encoded(cell: object, name: str, row: int) -> bytes | Span:
    if not _is_image(cell):
        raise AssetError(f"{name}: row {row} has no image in it")
    return cell["bytes"] if isinstance(cell, dict) else cell


def _labels(cells: pd.Series, column: str, name: str) -> Tensor:
    """Classes (N,), or labels (N, L), int64; numbers with a fraction as float32."""
    try:
        y = torch.from_numpy(np.array(cells.tolist()))
    except (TypeError, ValueError):
        kind = type(cells.iloc[0]).__name__
        raise AssetError(f"{name}: column {column!r} holds {kind}; labels are whole numbers or lists of them") from None
    return y.float() if y.is_floating_point() else y.long()
