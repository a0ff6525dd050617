"""Whole files or none: how the room writes."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes when it doesn't."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Tensors and JSON notes in one safetensors file."""
    with whole(path) as part:
        flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(flat, part, metadata={"notes": json.dumps(notes)})


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_checkpoint` wrote.

    Raises:
        ValueError: a damaged file, or one that is no checkpoint.
    """
    tensors, notes = read_tensors(path)
    if "notes" not in notes:
        raise ValueError(f"{path} holds tensors but no notes: it is no checkpoint of fit")
    return tensors, json.loads(notes["notes"])


def read_tensors(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file; `ValueError` if it is damaged."""
    try:
        with safe_open(path, "pt", device=device) as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from error
