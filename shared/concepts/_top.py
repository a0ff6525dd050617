"""The patches on which each concept fires most, with all that fires there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.sae import SparseCodes


@dataclass(frozen=True)
class TopPatches:
    """Per concept its strongest patches, best first.

    values : (d, n) the concept's own activation there; 0 where it fired on fewer patches. rows : (d, n) int64, numbers
    of the patches in the order they were seen; −1 where there is none. codes : whole codes of every patch that is some
    concept's, (m, d). at : (d, n) int64, its row in `codes`; −1 where there is none.
    """

    values: Tensor
    rows: Tensor
    codes: SparseCodes
    at: Tensor

    def mean_codes(self) -> Tensor:
        """f̄ (d, d): row i is the mean of the whole codes over i's patches; missing ones don't dilute it, dead: 0."""
        d = len(self.values)
        concept, place = (self.at >= 0).nonzero(as_tuple=True)
        row = self.at[concept, place]
        entries, owner = entries_of(self.codes.pattern.offsets, row)
        total = self.codes.values.new_zeros(d * d, dtype=torch.float64)
        total.index_add_(
            0, concept[owner] * d + self.codes.pattern.columns[entries], self.codes.values[entries].double()
        )
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
        """Merge rows numbered from `first` on."""
        d, n = self.values.shape
        self.values = self.values.to(codes.values.dtype)
        better = codes.values > self.values[codes.pattern.columns, -1]
        old_concept, old_place = (self.rows >= 0).nonzero(as_tuple=True)
        concept = torch.cat([old_concept, codes.pattern.columns[better]])
        value = torch.cat([self.values[old_concept, old_place], codes.values[better]])
        row = torch.cat([self.rows[old_concept, old_place], codes.pattern.rows[better] + first])
        order = row.argsort(stable=True)
        order = order[value[order].argsort(descending=True, stable=True)]
        order = order[concept[order].argsort(stable=True)]
        concept, value, row = concept[order], value[order], row[order]
        begin = bag_positions(torch.bincount(concept, minlength=d))
        rank = torch.arange(len(concept), device=concept.device) - begin[concept]
        keep = rank < n
        self.values, self.rows = torch.zeros_like(self.values), torch.full_like(self.rows, -1)
        self.values[concept[keep], rank[keep]] = value[keep]
        self.rows[concept[keep], rank[keep]] = row[keep]
        self._refill(codes, first)

    def _refill(self, codes: SparseCodes, first: int) -> None:
        """Let go of the codes of rows that are nobody's any more, and take in the new ones."""
        needed = self.rows[self.rows >= 0].unique()
        new = needed[needed >= first] - first
        parts = [take_rows(codes, new)]
        if self.pool is not None:
            parts.insert(0, take_rows(self.pool, torch.isin(self.kept, needed).nonzero()[:, 0]))
        self.pool, self.kept = _stack(parts), needed

    def result(self) -> TopPatches:
        if self.pool is None:
            raise ValueError("no codes were given yet; call update(codes) first")
        at = torch.searchsorted(self.kept, self.rows.clamp_min(0))
        return TopPatches(self.values.clone(), self.rows.clone(), self.pool, torch.where(self.rows >= 0, at, -1))


def bag_positions(counts: Tensor) -> Tensor:
    """Begin of each bag, and the end of the last, from the bags' sizes."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def entries_of(offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of the entries of these rows one after the other, and for each which of `rows` it belongs to."""
    counts = offsets.diff()[rows]
    owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
    within = torch.arange(len(owner), device=rows.device) - bag_positions(counts)[owner]
    return offsets[rows][owner] + within, owner


def take_rows(codes: SparseCodes, rows: Tensor) -> SparseCodes:
    """Some rows of a table of codes."""
    entries, _ = entries_of(codes.pattern.offsets, rows)
    offsets = bag_positions(codes.pattern.offsets.diff()[rows])
    pattern = type(codes.pattern)(codes.pattern.columns[entries], offsets, codes.pattern.width)
    return SparseCodes(codes.values[entries], pattern, torch.Size((len(rows), codes.pattern.width)))


def _stack(parts: list[SparseCodes]) -> SparseCodes:
    """Tables one below the other."""
    counts = torch.cat([part.pattern.offsets.diff() for part in parts])
    columns, values = torch.cat([p.pattern.columns for p in parts]), torch.cat([p.values for p in parts])
    pattern = type(parts[0].pattern)(columns, bag_positions(counts), parts[0].pattern.width)
    return SparseCodes(values, pattern, torch.Size((len(counts), parts[0].pattern.width)))
