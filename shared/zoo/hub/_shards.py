"""The files of one split, read in order until there are enough rows: parquet, JSON lines, webdataset tar or npz."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_choice
from shared.zoo._assets import AssetError
from shared.zoo.hub._pictures import Span

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".jsonl", ".tar", ".npz")  # the first that a folder has is read
_SPLITS = {  # words in a file's path, and the split they stand for
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval"),
}
_NO_CONFIG = {"data", "shard", "shards", "part", *(word for said in _SPLITS.values() for word in said)}
_WORD = re.compile(r"[a-z]+")
_BATCH = 1024  # rows of parquet in memory beside what is kept
_PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "ppm", "gif", "tif", "tiff")


def split_files(names: Iterable[str], split: str, data: str) -> list[str]:
    """Which of the files hold a split, in order.

    A file belongs to a split if its path has a word for it (`data/train-00000-of-00002.parquet`), else to train.
    """
    names = sorted(names)
    suffix = _suffix(names, data)
    by_split: dict[str, list[str]] = {}
    for name in names:
        if name.endswith(suffix):
            words = set(_WORD.findall(name.lower()))
            of = next((known for known, said in _SPLITS.items() if words & set(said)), "train")
            by_split.setdefault(of, []).append(name)
    asked = next((known for known, said in _SPLITS.items() if split in said and known in by_split), split)
    return by_split[check_choice("split", asked, by_split)]


def config_files(names: Iterable[str], config: str | None, data: str) -> list[str]:
    """The files of one configuration: those in its folder. Without folders beside those of splits there is but one."""
    names = list(names)
    suffix = _suffix(names, data)
    found: dict[str, list[str]] = {}
    for name in names:
        if name.endswith(suffix):
            folders = [part for part in PurePosixPath(name).parts[:-1] if _names_a_config(part)]
            found.setdefault("/".join(folders), []).append(name)
    if config is not None:
        return found[check_choice("config", config, found)]
    if len(found) > 1:
        raise AssetError(f"{data} has several configurations, {', '.join(sorted(found))}: say which, as {data}:NAME")
    return next(iter(found.values()))


def _suffix(names: list[str], data: str) -> str:
    suffix = next((suffix for suffix in SUFFIXES if any(name.endswith(suffix) for name in names)), None)
    if suffix is None:
        raise AssetError(f"{data} has no {', '.join(SUFFIXES)} file; other formats aren't read")
    return suffix


def _names_a_config(folder: str) -> bool:
    words = set(_WORD.findall(folder.lower()))
    return bool(words) and not words <= _NO_CONFIG


def read_arrays(paths: Iterable[Path], name: str, rows: int | None) -> tuple[Tensor, Tensor | None]:
    """The arrays `x` and, if there, `y` of npz files."""
    parts = []
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            if "x" not in arrays:
                raise AssetError(f"{name}: {path.name} has no array x (it has {', '.join(arrays)})")
            parts.append({key: torch.from_numpy(arrays[key][:rows]) for key in ("x", "y") if key in arrays})
        if rows is not None and sum(len(part["x"]) for part in parts) >= rows:
            break
    x, y = (torch.cat([part[key] for part in parts])[:rows] if key in parts[0] else None for key in ("x", "y"))
    return x, y


def read_table(paths: Iterable[Path], name: str, rows: int | None) -> tuple[pd.DataFrame, dict[str, tuple[str, ...]]]:
    """The first rows as a table, and the class names of its columns where the files state them.

    Pictures stay encoded: a cell is {"bytes": …}, as the hub's parquet files have it, or a `Span` of an archive.
    """
    import pandas as pd

    parts: list[pd.DataFrame] = []
    classes: dict[str, tuple[str, ...]] = {}
    left = rows
    for path in paths:
        for part in _READERS[path.suffix](path, name, left, classes):
            parts.append(part)
            left = None if left is None else left - len(part)
        if left is not None and left <= 0:
            break
    return (pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()), classes


def _parquet(path: Path, name: str, rows: int | None, classes: dict[str, tuple[str, ...]]) -> Iterator[pd.DataFrame]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise AssetError(f"{name} is in parquet files; reading them needs pyarrow (`pip install pyarrow`)") from None
    left = rows
    with parquet.ParquetFile(path) as file:
        classes.update(_class_names(file.schema_arrow.metadata or {}))
        for batch in file.iter_batches(batch_size=_BATCH if rows is None else min(rows, _BATCH)):
            part = batch.to_pandas()
            yield part if left is None else part.head(left)
            left = None if left is None else left - len(part)
            if left is not None and left <= 0:
                return


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """The names that `datasets` writes beside a table for its columns of classes."""
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {column: tuple(of["names"]) for column, of in features.items() if isinstance(of, dict) and "names" in of}


def _json_lines(path: Path, name: str, rows: int | None, classes: dict) -> Iterator[pd.DataFrame]:
    import pandas as pd

    yield pd.read_json(path, lines=True, nrows=rows)


def _tar(path: Path, name: str, rows: int | None, classes: dict) -> Iterator[pd.DataFrame]:
    """A webdataset shard: members `KEY.EXTENSION`, those of one row one after the other; the rest isn't read."""
    import pandas as pd

    table: list[dict[str, Any]] = []
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if not member.isfile() or PurePosixPath(member.name).name.startswith("."):
                continue
            stem, _, extension = PurePosixPath(member.name).name.partition(".")
            key = str(PurePosixPath(member.name).parent / stem)
            if not table or table[-1]["key"] != key:
                if rows is not None and len(table) == rows:
                    break
                table.append({"key": key})
            table[-1].update(_cells(Span(path, member.offset_data, member.size), extension.lower(), f"{name}: {key}"))
    yield pd.DataFrame(table)


def _cells(span: Span, extension: str, where: str) -> dict[str, Any]:
    """What a member of an archive adds to its row; formats other than pictures, texts and numbers add nothing."""
    try:
        if extension in _PICTURES:
            return {"image": span}
        if extension == "cls":
            return {"label": int(span.read())}
        if extension == "txt":
            return {"text": span.read().decode()}
        if extension == "json":
            said = json.loads(span.read())
            return said if isinstance(said, dict) else {"json": said}
    except ValueError:
        raise AssetError(f"{where}.{extension} isn't what its name says") from None
    return {}


_READERS: dict[str, Callable[..., Iterator[pd.DataFrame]]] = {
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".tar": _tar,
}
