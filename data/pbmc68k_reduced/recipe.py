"""The shipped single-cell set: what scanpy's wheel carries, as an npz without pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._wheels import read_cells

GROUPS = ("bulk_labels", "louvain", "phase")
NUMBERS = ("n_genes", "n_counts", "percent_mito", "S_score", "G2M_score")


@recipe("pbmc68k_reduced")
def make(folder: Path) -> None:
    """Write the cells' principal components, groups and counts as npz; needs a package index once, and h5py."""
    write_arrays(folder / "pbmc68k_reduced.npz", read_cells(read))


def read(file: Any) -> dict[str, np.ndarray]:
    """Arrays of the open h5ad file: pca (700, 50), a code and its categories per grouping, and counts (700,)."""
    cells = file["obs"][:]
    arrays = {"pca": file["obsm"][:]["X_pca"].astype(np.float32)}
    for name in GROUPS:
        arrays[name] = cells[name].astype(np.int8)
        arrays[f"{name}_names"] = np.array([c.decode() for c in file[f"uns/{name}_categories"][:]])
    return arrays | {name: cells[name].astype(np.float32) for name in NUMBERS}
