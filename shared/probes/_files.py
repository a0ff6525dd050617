"""Directions in a file: vectors as safetensors, the rest as JSON in its header; never pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from shared.probes._direction import Direction

FORMAT = "reprise-directions-1"
_TENSORS = ("vector", "mean_pos", "mean_neg")
_OTHERS = ("scale", "intercept", "method", "pool", "layer", "n", "name", "channel_axis")


def save_directions(path: str | Path, directions: Direction | Sequence[Direction]) -> Path:
    """Write directions to a safetensors file.

    Parameters
    ----------
    path : the file; its folder must exist.
    directions : one or several, of any layers.

    Returns
    -------
    The path.

    Raises
    ------
    ValueError
        `directions` is empty.
    """
    several = [directions] if isinstance(directions, Direction) else list(directions)
    if not several:
        raise ValueError("directions is empty; at least one is needed")
    tensors = {f"{k}.{part}": getattr(d, part).contiguous() for k, d in enumerate(several) for part in _TENSORS}
    said = [{part: getattr(d, part) for part in _OTHERS} for d in several]
    save_file(tensors, path, metadata={"format": FORMAT, "directions": json.dumps(said)})
    return Path(path)


def load_directions(path: str | Path) -> list[Direction]:
    """The directions that `save_directions` wrote.

    Parameters
    ----------
    path : the file.

    Returns
    -------
    As they were, on the CPU.

    Raises
    ------
    ValueError
        The file is none of these, or lacks a part.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"path={str(path)!r} holds {metadata.get('format')!r}, no directions ({FORMAT})")
            said = json.loads(metadata["directions"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"path={str(path)!r} is no safetensors file: {error}") from None
    return [_direction(k, rest, tensors, path) for k, rest in enumerate(said)]


def _direction(k: int, rest: dict, tensors: dict[str, torch.Tensor], path: str | Path) -> Direction:
    missing = [part for part in _TENSORS if f"{k}.{part}" not in tensors] + [p for p in _OTHERS if p not in rest]
    if missing:
        raise ValueError(f"path={str(path)!r}: direction {k} lacks {', '.join(missing)}")
    vectors = {part: tensors[f"{k}.{part}"] for part in _TENSORS}
    return Direction(**vectors, **{part: rest[part] for part in _OTHERS if part != "n"}, n=tuple(rest["n"]))
