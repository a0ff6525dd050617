"""Where things are, and how files are written: whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAPERS = ROOT / "papers"
DATA = ROOT / "data"
SCALES = ("small", "paper")


def cache_dir() -> Path:
    """Folder for what is fetched or converted once: `data/cache`, or the environment variable REPRISE_CACHE."""
    return Path(os.environ.get("REPRISE_CACHE") or DATA / "cache")


def figures_dir() -> Path:
    """Folder for regenerated figures and results: `figures`, or the environment variable REPRISE_FIGURES."""
    return Path(os.environ.get("REPRISE_FIGURES") or ROOT / "figures")


def run_dir(slug: str, scale: str = "small") -> Path:
    """Folder of a paper's figures and results at a scale: `figures/<slug>`, at paper scale `figures/<slug>/paper`."""
    return figures_dir() / slug / ("paper" if scale == "paper" else "")


def known_papers(folder: Path = PAPERS) -> list[str]:
    """Slugs of the papers in the repository: every folder with a card."""
    return sorted(path.parent.name for path in folder.glob("*/card.yml"))


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
