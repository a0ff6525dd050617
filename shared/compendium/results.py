"""Official results on disk: what a notebook is given, whether its results are current, what doesn't belong to them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import yaml

from shared.compendium.dependencies import run_key
from shared.compendium.parameters import notebook_parameters
from shared.compendium.paths import PAPERS, atomic_path, figures_dir, run_dir


def given_parameters(notebook: str, scale: str) -> dict[str, Any]:
    """Parameters the runner passes: none at small scale, those of `paper.yml` at paper scale.

    A `more_<topic>` notebook takes those of `more_<topic>.yml`, or else what it shares with `paper.yml`.
    """
    if scale != "paper":
        return {}
    slug, _, more = notebook.partition("/")
    own = PAPERS / slug / f"{more or 'paper'}.yml"
    named = yaml.safe_load((own if own.is_file() else PAPERS / slug / "paper.yml").read_text(encoding="utf-8"))
    if own.is_file():
        return named
    known = notebook_parameters(notebook)
    return {name: value for name, value in named.items() if name in known}


def official_key(notebook: str, scale: str) -> str:
    """The key that official results must carry to be current."""
    return run_key(notebook, {"scale": scale, **given_parameters(notebook, scale)})


def read_results(folder: Path) -> dict[str, Any] | None:
    """results.json of a folder; None if there is none or it can't be read."""
    try:
        return json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def is_current(notebook: str, scale: str = "small") -> bool:
    """Whether official results are there, by the present code, and with every figure they declare."""
    folder = run_dir(notebook, scale)
    results = read_results(folder)
    try:
        if results is None or results.get("key") != official_key(notebook, scale):
            return False
    except (OSError, ValueError, SyntaxError, KeyError):  # a broken notebook or card: its own run will say so
        return False
    return all((folder / f"{name}.{suffix}").is_file() for name in results["figures"] for suffix in ("png", "svg"))


def key_file(notebook: str, scale: str = "small") -> Path:
    """The file that Snakemake holds against results.json: newer if that isn't current, else older."""
    path = figures_dir() / ".snakemake" / "keys" / f"{notebook.replace('/', '.')}.{scale}"
    current = is_current(notebook, scale)
    if not current or not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_text(str(time.time_ns()), encoding="utf-8")  # a new content: Snakemake compares it too
    if current:
        written = (run_dir(notebook, scale) / "results.json").stat().st_mtime
        os.utime(path, (written - 1, written - 1))
    return path


def sweep(folder: Path) -> list[str]:
    """Remove figures that results.json doesn't declare, left by an earlier version; returns their names."""
    declared = (read_results(folder) or {}).get("figures")
    if declared is None:
        return []
    stale = [path for path in folder.iterdir() if path.suffix in {".png", ".svg"} and path.stem not in declared]
    for path in stale:
        path.unlink()
    return sorted(path.name for path in stale)
