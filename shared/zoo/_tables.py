"""Reading a hub data set's folder: parquet, JSON lines or npz, one split."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_choice, check_range
from shared.zoo._assets import AssetError

_SUFFIXES = (".parquet", ".jsonl", ".npz")
_WORD = re.compile(r"[a-z]+")


def read_folder(folder: Path, split: str, name: str, rows: int | None = None) -> tuple[Any, Tensor | None, None]:
    """x, y and class names (None) of one split, the first `rows` of it if given.

    An npz file gives its arrays `x` and `y`. Tables give a DataFrame as x, or, if they have an image column, the
    decoded images in [0, 1], (N, C, H, W) or, where sizes differ, a list of (C, H, W), and the column `label`. A file
    belongs to a split if its path has the split's name as a word (`data/train-00000-of-00002.parquet`); a file without
    any such word belongs to train.
    """
    if rows is not None:
        check_range("rows", rows, 1)
    files = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES)
    if not files:
        raise AssetError(f"{name} has no {', '.join(_SUFFIXES)} file; other formats aren't read")
    by_split: dict[str, list[Path]] = {}
    for path in files:
        words = _WORD.findall(path.relative_to(folder).as_posix().lower())
        of = next((known for known in ("train", "validation", "valid", "test", "dev") if known in words), "train")
        by_split.setdefault(of, []).append(path)
    chosen = by_split[check_choice("split", split, by_split)]
    if chosen[0].suffix == ".npz":
        x, y, _ = _arrays(chosen, name)
        return x[:rows], None if y is None else y[:rows], None
    return _table(chosen, name, rows)


def _arrays(files: list[Path], name: str) -> tuple[Tensor, Tensor | None, None]:
    parts = []
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            if "x" not in arrays:
                raise AssetError(f"{name}: {file.name} has no array x (it has {', '.join(arrays)})")
            parts.append({key: torch.from_numpy(arrays[key]) for key in ("x", "y") if key in arrays})
    x = torch.cat([part["x"] for part in parts])
    return x, torch.cat([part["y"] for part in parts]) if "y" in parts[0] else None, None


def _table(files: list[Path], name: str, rows: int | None) -> tuple[Any, Tensor | None, None]:
    frame = _frame(files, name, rows)
    image = next((column for column in frame if _is_image(frame[column].iloc[0])), None) if len(frame) else None
    if image is None:
        return frame, None, None
    x = [_decode(cell) for cell in frame[image]]
    if len({picture.shape for picture in x}) == 1:
        x = torch.stack(x)
    return x, torch.tensor(frame["label"].to_numpy()) if "label" in frame else None, None


def _frame(files: list[Path], name: str, rows: int | None) -> Any:
    """One table of the files, read until there are enough rows."""
    import pandas as pd

    frames, count = [], 0
    for file in files:
        try:
            frames.append(pd.read_json(file, lines=True) if file.suffix == ".jsonl" else pd.read_parquet(file))
        except ImportError:
            raise AssetError(
                f"{name} is in parquet files; reading them needs pyarrow (`pip install pyarrow`)"
            ) from None
        count += len(frames[-1])
        if rows is not None and count >= rows:
            break
    return pd.concat(frames, ignore_index=True).head(count if rows is None else rows)


def _is_image(cell: Any) -> bool:
    return isinstance(cell, dict) and isinstance(cell.get("bytes"), bytes)


def _decode(cell: dict[str, Any]) -> Tensor:
    """One encoded image as (C, H, W) in [0, 1]."""
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(cell["bytes"])))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div_(255)
