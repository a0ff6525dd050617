"""The patches on which each concept fires most, with all that fires there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shared._checks import wide
from shared.sae import SparseCodes


@dataclass(frozen=True)
class TopPatches:
    """Per concept its n strongest patches, best first.

    Parameters
    ----------
    values : Tensor
        `(d, n)`, the concept's own activation there; 0 where it fired on fewer patches.
    rows : Tensor
        `(d, n)` int64, numbers of the patches in the order they were seen; −1 where there is none.
    codes : SparseCodes
        `(m, d)`, whole codes of every patch that is some concept's.
    at : Tensor
        `(d, n)` int64, the patch's row in `codes`; −1 where there is none.
    """

    values: Tensor
    rows: Tensor
    codes: SparseCodes
    at: Tensor

    def mean_codes(self) -> Tensor:
        """f̄ `(d, d)`: row i is the mean of the whole codes over i's patches; missing ones don't dilute it, dead: 0."""
        d = len(self.values)
        concept, rank = (self.at >= 0).nonzero(as_tuple=True)
        row = self.at[concept, rank]
        entries, owner = self.codes.pattern.entries_of(row)
        place = concept[owner] * d + self.codes.pattern.columns[entries]
        added = wide(self.codes.values[entries])
        total = added.new_zeros(d * d)
        total.index_add_(0, place, added)
        number = (self.at >= 0).sum(1).clamp_min(1)
        return (total.view(d, d) / number[:, None]).to(self.codes.values.dtype)


class Top:
    """Keeps the strongest `n` rows of each column of sparse codes; ties go to the row seen first."""

    def __init__(self, d: int, n: int, device: str | torch.device) -> None:
        self.values = torch.zeros(d, n, device=device)
        self.rows = torch.full((d, n), -1, dtype=torch.long, device=device)
        self.kept = torch.zeros(0, dtype=torch.long, device=device)  # rows whose codes are in the pool, ascending
        self.pool: SparseCodes | None = None

    def update(self, codes: SparseCodes, first: int) -> None:
        """Merge rows numbered from `first` on: sort old and new entries by concept, value and row, and keep n of each.

        With n = 2, a concept at 5 (row 3) and 1 (row 0), and new rows that give it 4 (row 7) and 1 (row 8): sorted 5,
        4, 1 (row 0), 1 (row 8), ranked 0 to 3; those of rank 0 and 1 stay.
        """
        d, n = self.values.shape
        self.values = self.values.to(codes.values.dtype)
        better = codes.values > self.values[codes.pattern.columns, -1]
        old_concept, old_rank = (self.rows >= 0).nonzero(as_tuple=True)
        concept = torch.cat([old_concept, codes.pattern.columns[better]])
        value = torch.cat([self.values[old_concept, old_rank], codes.values[better]])
        row = torch.cat([self.rows[old_concept, old_rank], codes.pattern.rows[better] + first])
        order = row.argsort(stable=True)  # the last key first: each sort keeps the order of those before it
        order = order[value[order].argsort(descending=True, stable=True)]
        order = order[concept[order].argsort(stable=True)]
        concept, value, row = (part[order] for part in (concept, value, row))
        counts = torch.bincount(concept, minlength=d)
        begin = counts.cumsum(0) - counts
        rank = torch.arange(len(concept), device=concept.device) - begin[concept]
        keep = rank < n
        self.values = torch.zeros_like(self.values)
        self.rows = torch.full_like(self.rows, -1)
        self.values[concept[keep], rank[keep]] = value[keep]
        self.rows[concept[keep], rank[keep]] = row[keep]
        self._refill(codes, first)

    def _refill(self, codes: SparseCodes, first: int) -> None:
        """Let go of the codes of rows that are nobody's any more, and take in the new ones."""
        needed = self.rows[self.rows >= 0].unique()
        new = needed[needed >= first] - first
        parts = [codes.take(new)]
        if self.pool is not None:
            parts.insert(0, self.pool.take(torch.isin(self.kept, needed).nonzero()[:, 0]))
        self.pool = SparseCodes.stack(parts)
        self.kept = needed

    def result(self) -> TopPatches:
        if self.pool is None:
            raise ValueError("no codes were given yet; call update(codes) first")
        at = torch.searchsorted(self.kept, self.rows.clamp_min(0))
        return TopPatches(self.values.clone(), self.rows.clone(), self.pool, torch.where(self.rows >= 0, at, -1))
