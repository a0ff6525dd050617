"""Activations on disk, as raw numbers that are mapped rather than read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_choice
from shared.sae.files._whole import whole

DTYPES = {"float32": torch.float32, "float16": torch.float16}


def write_activations(path: str | Path, parts: Iterable[Tensor], *, dtype: str = "float32") -> Path:
    """Store activations one after the other in `path` (raw numbers), with `path.json` beside it.

    Written under temporary names, so what is there is whole.

    Parameters
    ----------
    path : path
        Of the file.
    parts : iterable of Tensor
        `(n_i, d)` each.
    dtype : str
        "float32" or "float16".

    Returns
    -------
    Path
        For `open_activations`.

    Raises
    ------
    ValueError
        No rows, or parts of different width.
    """
    check_choice("dtype", dtype, DTYPES)
    path = Path(path)
    sidecar = path.with_name(path.name + ".json")
    rows, width = 0, None
    with whole(path) as temporary:
        with temporary.open("wb") as file:
            for part in parts:
                if part.ndim != 2 or (width is not None and part.shape[1] != width):
                    raise ValueError(f"parts must be (n, {width or 'd'}); got {tuple(part.shape)}")
                rows += len(part)
                width = part.shape[1]
                file.write(np.ascontiguousarray(part.detach().cpu().numpy().astype(dtype)).tobytes())
        if not rows:
            raise ValueError("parts holds no activations")
        sidecar.unlink(missing_ok=True)
    with whole(sidecar) as temporary:
        temporary.write_text(json.dumps({"shape": [rows, width], "dtype": dtype}), encoding="utf-8")
    return path


def open_activations(path: str | Path) -> Tensor:
    """Activations written by `write_activations`, mapped from disk (read what you touch).

    Parameters
    ----------
    path : path
        Of the file.

    Returns
    -------
    Tensor
        `(n, d)`.

    Raises
    ------
    FileNotFoundError
        The file or its description is missing.
    ValueError
        They don't fit each other.
    """
    path = Path(path)
    sidecar = path.with_name(path.name + ".json")
    if not path.is_file() or not sidecar.is_file():
        raise FileNotFoundError(f"{path} and {sidecar.name} must both exist; write_activations makes them")
    described = json.loads(sidecar.read_text(encoding="utf-8"))
    rows, width = described["shape"]
    dtype = DTYPES[check_choice("dtype", described["dtype"], DTYPES)]
    expected = rows * width * dtype.itemsize
    if path.stat().st_size != expected:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; {sidecar.name} says {expected}")
    return torch.from_file(str(path), shared=False, size=rows * width, dtype=dtype).view(rows, width)
