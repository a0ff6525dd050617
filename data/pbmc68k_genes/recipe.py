"""Gene expression of the cells of pbmc68k_reduced: what scanpy's wheel carries, as an npz without pickles.

Log-normalised counts of 700 cells and 765 genes as the parts of a CSR matrix (`data` float16, `indices`, `indptr`), the
genes' names, and the cell types; rows in the order of pbmc68k_reduced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._wheels import read_cells


@recipe("pbmc68k_genes")
def make(folder: Path) -> None:
    """Write the cells' expression as npz; needs a package index once, and h5py."""
    write_arrays(folder / "pbmc68k_genes.npz", read_cells(read))


def read(file: Any) -> dict[str, np.ndarray]:
    """Arrays of the open h5ad file."""
    return {
        "data": file["raw.X/data"][:].astype(np.float16),
        "indices": file["raw.X/indices"][:].astype(np.uint16),
        "indptr": file["raw.X/indptr"][:].astype(np.int32),
        "genes": np.array([name.decode() for name in file["raw.var"][:]["index"]]),
        "bulk_labels": file["obs"][:]["bulk_labels"].astype(np.int8),
        "bulk_labels_names": np.array([c.decode() for c in file["uns/bulk_labels_categories"][:]]),
    }
