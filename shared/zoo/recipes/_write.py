"""Writing what a recipe made, each file whole or not at all: weights, JSON, and the provenance card."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import nn

from shared.compendium.paths import atomic_path, sha256
from shared.zoo._cards import CARDS


def write_weights(path: Path, model: nn.Module, metadata: dict[str, str] | None = None) -> None:
    """The state of a model as safetensors; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, temporary, metadata)


def write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_model_card(
    name: str,
    folder: Path,
    measured: dict[str, float],
    *,
    title: str,
    task: str,
    source: str,
    recipe: str,
    notes: str | None = None,
    seed: int = 0,
    tolerance: float | Callable[[str, float], float] = 0.01,
) -> None:
    """The card of a model that was trained here: digests of its files, and the numbers just measured.

    recipe : name of the module. tolerance : of every number, or a function of what was measured and the number.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    slack = tolerance if callable(tolerance) else lambda what, value: tolerance
    card = {
        "title": title,
        "kind": "model",
        "task": task,
        "stored": "shipped",
        "source": source,
        "licence": "MIT",
        "sha256": {file.relative_to(folder).as_posix(): sha256(file) for file in files},
        "recipe": f"shared/zoo/recipes/{recipe}.py",
        "seed": seed,
        **({"notes": notes} if notes else {}),
        "tested": [{"what": what, "measured": v, "tolerance": slack(what, v)} for what, v in measured.items()],
    }
    with atomic_path(CARDS / f"{name}.yml") as temporary:
        temporary.write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=116), encoding="utf-8")
