"""Which concepts fire on the same patches (CFM/Insight, section on concept relations): one pass over sparse codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from shared._checks import check_choice, check_finite, check_range
from shared.concepts._top import Top, TopPatches, bag_positions
from shared.sae import SparseCodes

PAIRS = 2**22  # pairs of entries handled at once
DENSE_SHARE = 0.15  # with a larger share of latents on, a dense product is the faster way


@dataclass(frozen=True)
class Relations:
    """What a pass over `rows` patches found; all float64.

    joint : C (d, d), symmetric: patches on which both fire. mass : D (d, d): the activation of the row's concept on the
    patches where the column's fires too. counts : (d,) patches on which each fires, the diagonal of C.
    """

    joint: Tensor
    mass: Tensor
    counts: Tensor
    rows: int

    @property
    def alive(self) -> Tensor:
        """Which concepts fired at all, bool (d,)."""
        return self.counts > 0

    @property
    def rate(self) -> Tensor:
        """Share of the patches on which each concept fires, (d,)."""
        return self.counts / max(1, self.rows)

    def conditional(self, by: str = "mass") -> Tensor:
        """Each row over its diagonal, (d, d) in [0, 1]; rows of dead concepts are zero.

        `"mass"`: D̃_ij, the share of i's activation that lies where j fires too. `"count"`: C̃_ij, the share of patches.
        Row i holds what i implies: a parent of i has D̃_ij near 1, whatever D̃_ji is.
        """
        table = self.mass if check_choice("by", by, ("mass", "count")) == "mass" else self.joint
        own = table.diagonal()[:, None]
        return torch.where(own > 0, table / own.clamp_min(torch.finfo(table.dtype).tiny), 0.0)

    def lift(self, by: str = "mass") -> Tensor:
        """`conditional` over the column's rate, (d, d): 1 where j fires with i no more than anywhere; 0 for dead j."""
        rate = self.rate
        return torch.where(rate > 0, self.conditional(by) / rate.clamp_min(torch.finfo(rate.dtype).tiny), 0.0)


class Cooccurrence:
    """Accumulates co-firing and the strongest patches over batches of codes, each row being a patch.

    With A = [f > threshold]: C += AᵀA and D += (f·A)ᵀA. A batch costs the sum of squares of the rows' active latents,
    not rows × d². How the rows are cut into batches changes nothing (but for rounding of D).

    Args:
        d_sae: number of latents.
        threshold: a code at or below it doesn't count as firing (the authors' 0.001).
        top: patches kept per latent, with their whole codes.
        device: where the tables are; codes are moved there.
    """

    def __init__(
        self, d_sae: int, *, threshold: float = 1e-3, top: int = 30, device: str | torch.device = "cpu"
    ) -> None:
        check_range("d_sae", d_sae, 1)
        check_range("threshold", threshold, 0)
        check_range("top", top, 1)
        self.d_sae, self.threshold, self.rows = d_sae, threshold, 0
        self._joint, self._mass = torch.zeros(2, d_sae, d_sae, dtype=torch.float64, device=device)
        self._top = Top(d_sae, top, device)

    @torch.no_grad()
    def update(self, codes: Tensor | SparseCodes) -> Cooccurrence:
        """Add patches: codes (…, d_sae), dense or sparse. Returns itself.

        Raises `ValueError` for another width, no rows, NaN or infinity.
        """
        sparse = self._firing(codes)
        if len(sparse.values) > DENSE_SHARE * sparse.shape.numel():
            self._add_dense(sparse)
        else:
            self._add_sparse(sparse)
        self._top.update(sparse, self.rows)
        self.rows += len(sparse.pattern.offsets) - 1
        return self

    def relations(self) -> Relations:
        """The tables so far."""
        return Relations(self._joint.clone(), self._mass.clone(), self._joint.diagonal().clone(), self.rows)

    def top_patches(self) -> TopPatches:
        """The strongest patches so far."""
        return self._top.result()

    def _firing(self, codes: Tensor | SparseCodes) -> SparseCodes:
        """The entries above the threshold, as a table of rows."""
        if not codes.shape or codes.shape[-1] != self.d_sae:
            raise ValueError(f"codes has shape {tuple(codes.shape)}; its last axis must be d_sae={self.d_sae} wide")
        if codes.shape.numel() == 0:
            raise ValueError(f"codes is empty (shape {tuple(codes.shape)}); at least one row is needed")
        if isinstance(codes, Tensor):
            check_finite("codes", codes)
            codes = SparseCodes.from_dense(codes.detach().to(self._joint.device).clamp_min(0))
        elif len(codes.values):
            check_finite("codes", codes.values)
        device, values, on = self._joint.device, codes.values.detach(), codes.values.detach() > self.threshold
        rows = codes.shape.numel() // self.d_sae
        return _table(
            codes.pattern.rows[on].to(device), codes.pattern.columns[on].to(device), values[on].to(device), rows, codes
        )

    def _add_sparse(self, codes: SparseCodes) -> None:
        columns, values = codes.pattern.columns, codes.values.double()
        for left, right in _pairs(codes.pattern.offsets, codes.pattern.rows):
            at = columns[left] * self.d_sae + columns[right]
            if 4 * len(at) > self._joint.numel():  # one table for the batch beats scattered additions
                flat = {"minlength": self._joint.numel()}
                self._joint += torch.bincount(at, **flat).view_as(self._joint)
                self._mass += torch.bincount(at, weights=values[left], **flat).view_as(self._mass)
            else:
                self._joint.view(-1).index_add_(0, at, values.new_ones(len(at)))
                self._mass.view(-1).index_add_(0, at, values[left])

    def _add_dense(self, codes: SparseCodes) -> None:
        dense = codes.dense().view(-1, self.d_sae)
        for part in dense.split(max(1, PAIRS // self.d_sae)):
            fires = (part > 0).to(part.dtype)
            self._joint += (fires.T @ fires).double()
            self._mass += (part.T @ fires).double()


def _table(rows: Tensor, columns: Tensor, values: Tensor, n: int, like: SparseCodes) -> SparseCodes:
    """Sparse codes of `n` rows from entries ordered by row."""
    pattern = type(like.pattern)(columns, bag_positions(torch.bincount(rows, minlength=n)), like.shape[-1])
    return SparseCodes(values, pattern, torch.Size((n, like.shape[-1])))


def _pairs(offsets: Tensor, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs (left, right) of entries of the same row, some rows at a time."""
    active = offsets.diff()
    chunk = (active.square().cumsum(0) - 1).clamp_min(0) // PAIRS
    ends = torch.unique_consecutive(chunk, return_counts=True)[1].cumsum(0).tolist()
    for first, last in pairwise([0, *ends]):
        entries = torch.arange(int(offsets[first]), int(offsets[last]), device=rows.device)
        each = active[rows[entries]]
        left = torch.repeat_interleave(entries, each)
        begin = torch.repeat_interleave(each.cumsum(0) - each, each)
        right = offsets[rows[left]] + torch.arange(len(left), device=rows.device) - begin
        yield left, right
