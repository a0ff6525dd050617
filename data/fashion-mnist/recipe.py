"""The shipped Fashion-MNIST subset: balanced rows of the whole set's two splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.zoo.readers._images import FASHION_DEBIAN, read_fashion_idx
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays

PER_CLASS = {"train": 600, "test": 200}
SEED = 0


@recipe("fashion-mnist")
def make(folder: Path, *, source: Path = FASHION_DEBIAN) -> None:
    """Draw the subset by `SEED` from the IDX files in `source` and write it: 6,000 and 2,000 images, uint8.

    Needs Debian's package dataset-fashion-mnist (or its four files in `source`); raises `AssetError` without.
    """
    arrays = {}
    for split, count in PER_CLASS.items():
        images, labels = read_fashion_idx(split, source)
        rows = balanced_rows(labels, count, np.random.default_rng(SEED))
        arrays |= {f"{split}_images": images[rows], f"{split}_labels": labels[rows], f"{split}_rows": rows}
    write_arrays(folder / "fashion-mnist.npz", arrays)


def balanced_rows(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` rows of every class, drawn without replacement, in shuffled order (int32)."""
    rows = [generator.choice(np.flatnonzero(labels == k), count, replace=False) for k in np.unique(labels)]
    return generator.permutation(np.concatenate(rows)).astype(np.int32)
