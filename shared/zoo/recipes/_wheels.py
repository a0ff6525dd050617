"""Files out of pinned distributions and from pinned addresses, downloaded for a recipe and not kept."""

from __future__ import annotations

import hashlib
import io
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from shared.compendium.paths import sha256
from shared.zoo._assets import AssetError, pip_download

SCANPY = ("scanpy==1.11.5", "fcd383ddcf7acbf7c0ca232c25ad51b00aec9f8d2f7c8954b8c6ee0962257166")
CELLS = "scanpy/datasets/10x_pbmc68k_reduced.h5ad"


@contextmanager
def pinned_wheel(requirement: str, digest: str) -> Iterator[Path]:
    """A wheel with this digest, downloaded by pip; needs a package index. Raises `AssetError` for another digest."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = pip_download(requirement, digest, Path(folder))
        if sha256(wheel) != digest:
            raise AssetError(f"{wheel.name} hasn't the sha256 it should have")
        yield wheel


def pinned_file(address: str, digest: str) -> bytes:
    """What lies at an https address, of this digest; needs the network. Raises `AssetError` if it can't be had."""
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            found = answer.read()
    except OSError as error:
        raise AssetError(f"{address} can't be read ({error}); the recipe needs the network") from None
    if hashlib.sha256(found).hexdigest() != digest:
        raise AssetError(f"{address} hasn't the sha256 it should have")
    return found


def read_cells(read: Callable[[Any], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `read` takes out of the open HDF5 file of 700 blood cells in scanpy's wheel; needs h5py."""
    try:
        import h5py
    except ImportError:
        raise AssetError("the recipes of pbmc68k read an HDF5 file; `pip install h5py` first") from None
    with pinned_wheel(*SCANPY) as wheel, zipfile.ZipFile(wheel) as archive:
        with h5py.File(io.BytesIO(archive.read(CELLS)), "r") as file:
            return read(file)
