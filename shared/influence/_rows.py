"""Inputs that are read a few at a time: those of a `Dataset` or `DataLoader`, in the data set's own order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from shared._checks import check_finite, check_shape

Inputs = Tensor | Dataset | DataLoader


class Rows:
    """What methods ask of a tensor of inputs `(N, …)`, read from a map-style data set when asked for.

    `shape` is as the tensor's would be; indexing with whole numbers and `split` give tensors.
    """

    device = torch.device("cpu")

    def __init__(self, argument: str, dataset: Any, collate: Callable[[list], Any]) -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
            raise ValueError(
                f"{argument} is a {type(dataset).__name__} that is read in one order only; give a data set with "
                "len() and indices, since points are named by their number"
            )
        if not len(dataset):
            raise ValueError(f"{argument} is empty; at least one input is needed")
        self.argument, self.dataset, self.collate = argument, dataset, collate
        self.shape = torch.Size((len(dataset), *self._inputs([0]).shape[1:]))

    def __len__(self) -> int:
        return len(self.dataset)

    def _read(self, rows: list[int]) -> Any:
        return self.collate([self.dataset[row] for row in rows])

    def _inputs(self, rows: list[int]) -> Tensor:
        batch = self._read(rows)
        found = batch[0] if isinstance(batch, tuple | list) else batch
        if not isinstance(found, Tensor):
            raise TypeError(f"{self.argument} gives {type(found).__name__} as inputs; accepted: one tensor per item")
        check_finite(self.argument, found)
        return found

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self._inputs(rows.tolist())

    def split(self, size: int) -> Iterator[Tensor]:
        """Inputs of `size` rows at a time."""
        for start in range(0, len(self), size):
            yield self._inputs(list(range(start, min(start + size, len(self)))))

    def labels(self, size: int) -> Tensor:
        """The second part of each item, `(N,)`."""
        found = []
        for start in range(0, len(self), size):
            batch = self._read(list(range(start, min(start + size, len(self)))))
            if not isinstance(batch, tuple | list) or len(batch) < 2:
                raise ValueError(f"{self.argument} gives inputs without labels; give y")
            found.append(torch.as_tensor(batch[1]))
        return torch.cat(found)


def as_rows(argument: str, x: Inputs | Rows) -> Tensor | Rows:
    """A tensor as it is; a data set, or a loader's, to be read in parts. A loader's own order plays no part."""
    if isinstance(x, Tensor | Rows):
        return x
    if isinstance(x, DataLoader):
        return Rows(argument, x.dataset, x.collate_fn or default_collate)
    if isinstance(x, Dataset):
        return Rows(argument, x, default_collate)
    raise TypeError(
        f"{argument} must be one tensor of inputs, a Dataset or a DataLoader; got {type(x).__name__} (wrap models that "
        "take more)"
    )


def check_rows(argument: str, x: Tensor | Rows, shape: tuple[int | str, ...]) -> None:
    """`check_array`; what is read in parts is looked at for NaN as it is read."""
    check_shape(argument, x, shape)
    if isinstance(x, Tensor):
        check_finite(argument, x)
