"""The shipped Fashion-MNIST subset: balanced rows of the whole set's two splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.compendium.paths import atomic_path
from shared.zoo._data import FASHION_DEBIAN, FASHION_FILE, read_fashion_idx

PER_CLASS = {"train": 600, "test": 200}
SEED = 0


def make_fashion_subset(folder: Path = FASHION_DEBIAN, target: Path = FASHION_FILE) -> None:
    """Draw the subset by `SEED` from the IDX files in `folder` and write it as npz: 6,000 and 2,000 images, uint8.

    A file with the same arrays stays as it is, because another zlib would pack them into other bytes. Needs Debian's
    package dataset-fashion-mnist (or its four files in `folder`); raises `AssetError` without.
    """
    arrays = {}
    for split, count in PER_CLASS.items():
        images, labels = read_fashion_idx(split, folder)
        rows = balanced_rows(labels, count, np.random.default_rng(SEED))
        arrays |= {f"{split}_images": images[rows], f"{split}_labels": labels[rows], f"{split}_rows": rows}
    if target.is_file() and _same(target, arrays):
        return
    with atomic_path(target) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def balanced_rows(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` rows of every class, drawn without replacement, in shuffled order (int32)."""
    rows = [rng.choice(np.flatnonzero(labels == k), count, replace=False) for k in np.unique(labels)]
    return rng.permutation(np.concatenate(rows)).astype(np.int32)


def _same(file: Path, arrays: dict[str, np.ndarray]) -> bool:
    with np.load(file, allow_pickle=False) as old:
        return set(old.files) == set(arrays) and all(np.array_equal(old[key], arrays[key]) for key in arrays)
