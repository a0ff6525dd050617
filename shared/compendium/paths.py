"""Where things are, and how files are written: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PACKAGED = Path(__file__).resolve().parents[1] / "_repository"  # in an installed package only (setup.py)
INSTALLED = _PACKAGED.is_dir()
ROOT = _PACKAGED if INSTALLED else _PACKAGED.parents[1]
PAPERS = ROOT / "papers"
SCALES = ("small", "paper")


def data_dir() -> Path:
    """Folder of the zoo's assets, a folder each: `data` beside `shared`, or the environment variable REPRISE_DATA."""
    return Path(os.environ.get("REPRISE_DATA") or ROOT / "data")


def cache_dir() -> Path:
    """Folder for what is fetched or converted once: the environment variable REPRISE_CACHE, else `data/cache`.

    Of an installed package it is `reprise` in the user's own cache folder.
    """
    if INSTALLED:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reprise"
        return Path(os.environ.get("REPRISE_CACHE") or user)
    return Path(os.environ.get("REPRISE_CACHE") or data_dir() / "cache")


def figures_dir() -> Path:
    """Folder for regenerated figures and results: the environment variable REPRISE_FIGURES, else `figures`.

    Of an installed package it is `figures` in the working directory.
    """
    return Path(os.environ.get("REPRISE_FIGURES") or (Path.cwd() if INSTALLED else ROOT) / "figures")


def run_dir(notebook: str, scale: str = "small") -> Path:
    """Folder of a notebook's official figures and results: `figures/<notebook>`, at paper scale its `paper` folder.

    `notebook` is a paper's slug or `<slug>/more_<topic>`. The runner alone writes there; see `output_dir`.
    """
    return figures_dir() / notebook / ("paper" if scale == "paper" else "")


def output_dir(notebook: str, scale: str, parameters: Mapping[str, Any]) -> Path:
    """Folder a run of `notebook` writes to.

    Under the runner, which sets REPRISE_RUN, that is the official one (`run_dir`). Any other run, in JupyterLab or by
    a plain papermill call, has one of its own: `figures/<notebook>/runs/<hash of its parameters>`, so that it can't
    pass for the official results.
    """
    if official := os.environ.get("REPRISE_RUN"):
        return Path(official)
    text = canonical({**parameters, "scale": scale})
    return figures_dir() / notebook / "runs" / hashlib.sha256(text.encode()).hexdigest()[:12]


def canonical(value: Any) -> str:
    """`value` as JSON in one spelling only: sorted names, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def known_papers(*, folder: Path = PAPERS) -> list[str]:
    """Slugs of the papers in the repository: every folder with a card.

    Parameters
    ----------
    folder : where the papers are.

    Returns
    -------
    The slugs, sorted.
    """
    return sorted(path.parent.name for path in folder.glob("*/card.yml"))


def known_notebooks(slug: str | None = None, folder: Path = PAPERS) -> list[str]:
    """Notebooks of one paper or of all: `<slug>`, then its `<slug>/more_<topic>`."""
    found: list[str] = []
    for paper in known_papers(folder=folder) if slug is None else [slug]:
        more = sorted(path.stem for path in (folder / paper).glob("more_*.ipynb"))
        found += [paper, *(f"{paper}/{name}" for name in more)]
    return found


@contextmanager
def atomic_path(target: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `target`; move it there when the block ends well, remove it when it doesn't.

    A reader sees the old file or the new one, never a part, also after a kill. The temporary name keeps the suffix,
    because writers choose the format by it.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; results are meant to be read
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: str | os.PathLike) -> str:
    """Hex digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
