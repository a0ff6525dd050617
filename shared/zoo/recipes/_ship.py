"""Making what the repository ships: `ship` trains, writes, measures and states; every file whole or not at all."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.torch import save_file
from torch import nn

from shared.compendium.paths import atomic_path, cache_dir, sha256
from shared.zoo._cards import FILE, all_cards

RECIPE = "recipe.py"


def ship(
    folder: Path,
    *,
    train: Callable[[Path], Any],
    write: Callable[[Any, Path], None],
    measure: Callable[[Path], dict[str, float]],
    title: str,
    task: str,
    source: str,
    made_from: Sequence[str] = (),
    notes: str | None = None,
    seed: int = 0,
    tolerance: float | Callable[[str, float], float] = 0.01,
) -> None:
    """Train a model, write its files into `folder`, measure what was written, and state all of it in its card.

    Parameters
    ----------
    folder : the asset's, named as the asset.
    train : gives what `write` takes; may keep checkpoints in the folder that it is given, so that a killed run goes on.
    write : writes the files into `folder`.
    measure : the numbers that the card states, of the files in `folder`.
    title, task, source, made_from, notes, seed : as in the card.
    tolerance : of every number, or a function of what was measured and the number.
    """
    kept = cache_dir() / f".{folder.name}.training"
    kept.mkdir(parents=True, exist_ok=True)
    write(train(kept), folder)
    measured = measure(folder)
    slack = tolerance if callable(tolerance) else lambda what, value: tolerance
    card = {
        "title": title,
        "kind": "model",
        "task": task,
        "stored": "shipped",
        "source": source,
        "licence": "MIT",
        "sha256": {file: sha256(folder / file) for file in asset_files(folder)},
        **({"made_from": list(made_from)} if made_from else {}),
        "seed": seed,
        **({"notes": notes} if notes else {}),
        "tested": [{"what": what, "measured": v, "tolerance": slack(what, v)} for what, v in measured.items()],
    }
    with atomic_path(folder / FILE) as temporary:
        temporary.write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=116), encoding="utf-8")
    all_cards.cache_clear()
    shutil.rmtree(kept)


def asset_files(folder: Path) -> list[str]:
    """What an asset's folder holds besides its card and its recipe, sorted."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    own = (path for path in files if path.as_posix() not in (FILE, RECIPE) and "__pycache__" not in path.parts)
    return sorted(path.as_posix() for path in own)


def write_weights(path: Path, model: nn.Module, metadata: dict[str, str] | None = None) -> None:
    """The state of a model as safetensors; makes the folder."""
    with atomic_path(path) as temporary:
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, temporary, metadata)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """JSON with an indent of one."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Gzipped JSON lines, the same bytes whenever they are written."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        with gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
            packed.write(lines.encode())


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A compressed npz. A file with the same arrays stays as it is: another zlib would pack them into other bytes."""
    if path.is_file() and _holds(path, arrays):
        return
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def _holds(path: Path, arrays: dict[str, np.ndarray]) -> bool:
    with np.load(path, allow_pickle=False) as old:
        return set(old.files) == set(arrays) and all(np.array_equal(old[key], arrays[key]) for key in arrays)
