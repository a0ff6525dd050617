"""Tables of numbers: scikit-learn's, cells by their genes, stored vectors; arrays by name."""

from __future__ import annotations

import numpy as np
import torch

from shared._checks import check_choice
from shared.zoo._assets import asset_arrays
from shared.zoo._kinds import ArrayData, TableData
from shared.zoo._registry import reader


@reader("scikit_learn_table")
def scikit_learn_table(name: str, split: str, *, random_state: int = 0) -> TableData:
    """A table that scikit-learn's wheel carries, split into 80 % and 20 %; not standardised."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    bunch = getattr(datasets, f"load_{name.replace('-', '_')}")()
    classes = getattr(bunch, "target_names", None)
    rows = np.arange(len(bunch.data))
    if split != "all":
        stratify = None if classes is None else bunch.target
        train, test = train_test_split(rows, test_size=0.2, random_state=random_state, stratify=stratify)
        rows = np.sort(train if split == "train" else test)
    y = torch.from_numpy(bunch.target[rows])
    return TableData(
        name,
        split,
        torch.from_numpy(bunch.data[rows]).float(),
        y.float() if classes is None else y.long(),
        None if classes is None else tuple(map(str, classes)),
        tuple(map(str, bunch.feature_names)),
    )


@reader("ordered_table")
def ordered_table(name: str, split: str, *, target: str | None = None) -> TableData:
    """A table whose rows have an order: three quarters for training, the rest for testing; y is one target or all."""
    arrays = asset_arrays(name)
    cut = len(arrays["x"]) * 3 // 4
    rows = {"train": slice(cut), "test": slice(cut, None), "all": slice(None)}[split]
    y = torch.from_numpy(arrays["y"][rows])
    if target is not None:
        targets = list(arrays["targets"])
        y = y[:, targets.index(check_choice("target", target, targets))]
    return TableData(name, split, torch.from_numpy(arrays["x"][rows]), y, features=tuple(map(str, arrays["features"])))


@reader("cell_components")
def cell_components(name: str, split: str, *, target: str = "bulk_labels") -> TableData:
    """Cells by their principal components; y groups them or is a number per cell."""
    arrays = asset_arrays(name)
    known = [key for key in arrays if key != "pca" and not key.endswith("_names")]
    y = torch.from_numpy(arrays[check_choice("target", target, known)])
    grouped = f"{target}_names" in arrays
    x = torch.from_numpy(arrays["pca"])
    return TableData(
        name,
        split,
        x,
        y.long() if grouped else y.float(),
        tuple(map(str, arrays[f"{target}_names"])) if grouped else None,
        tuple(f"PC{i + 1}" for i in range(x.shape[1])),
    )


@reader("cell_genes")
def cell_genes(name: str, split: str) -> TableData:
    """Cells by their genes' log-normalised counts, which the file keeps as the parts of a sparse matrix."""
    from scipy.sparse import csr_matrix

    arrays = asset_arrays(name)
    shape = (len(arrays["indptr"]) - 1, len(arrays["genes"]))
    parts = (arrays["data"].astype(np.float32), arrays["indices"].astype(np.int32), arrays["indptr"])
    return TableData(
        name,
        split,
        torch.from_numpy(csr_matrix(parts, shape=shape).toarray()),
        torch.from_numpy(arrays["bulk_labels"]).long(),
        tuple(map(str, arrays["bulk_labels_names"])),
        tuple(map(str, arrays["genes"])),
    )


@reader("scaled_vectors")
def scaled_vectors(name: str, split: str) -> TableData:
    """Sentence vectors (N, 96) of the rows of `snippets`, stored as whole numbers at one scale."""
    arrays = asset_arrays(name)
    return TableData(name, split, torch.from_numpy(arrays["vectors"].astype(np.float32) * arrays["scale"]))


@reader("named_arrays")
def named_arrays(name: str, split: str) -> ArrayData:
    """Arrays by name, as they are stored."""
    return ArrayData(name, split, {key: torch.from_numpy(array) for key, array in asset_arrays(name).items()})
