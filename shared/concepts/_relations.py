"""Which concepts fire on the same patches (CFM/Insight, section on concept relations): one pass over sparse codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from shared._checks import check_choice, check_finite, check_range, wide
from shared.concepts._top import Top, TopPatches
from shared.sae import SparseCodes

PAIRS = 2**22  # pairs of entries handled at once
DENSE_SHARE = 0.15  # with a larger share of latents on, a dense product is the faster way


@dataclass(frozen=True)
class Relations:
    """What a pass over patches found; tables are float64.

    Parameters
    ----------
    joint : Tensor
        C `(d, d)`, symmetric: patches on which both fire.
    mass : Tensor
        D `(d, d)`: the activation of the row's concept on the patches where the column's fires too.
    counts : Tensor
        `(d,)`, patches on which each fires: the diagonal of C.
    rows : int
        Patches seen.
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

    def conditional(self, *, by: str = "mass") -> Tensor:
        """Each row over its diagonal: row i holds what i implies, so a parent j of i has D̃_ij near 1, whatever D̃_ji is.

        Parameters
        ----------
        by : str
            "mass": D̃_ij, the share of i's activation that lies where j fires too. "count": C̃_ij, the share of patches.

        Returns
        -------
        Tensor
            `(d, d)` in [0, 1]; rows of dead concepts are zero.
        """
        table = self.mass if check_choice("by", by, ("mass", "count")) == "mass" else self.joint
        own = table.diagonal()[:, None]
        return torch.where(own > 0, table / own.clamp_min(torch.finfo(table.dtype).tiny), 0.0)

    def lift(self, *, by: str = "mass") -> Tensor:
        """`conditional` over the column's rate: 1 where j fires with i no more than anywhere.

        Parameters
        ----------
        by : str
            As in `conditional`.

        Returns
        -------
        Tensor
            `(d, d)`; 0 for dead j.
        """
        rate = self.rate
        return torch.where(rate > 0, self.conditional(by=by) / rate.clamp_min(torch.finfo(rate.dtype).tiny), 0.0)


class Cooccurrence:
    """Accumulates co-firing and the strongest patches over batches of codes, each row being a patch.

    With A = [f > threshold]: C += AᵀA and D += (f·A)ᵀA. A batch costs the sum of squares of the rows' active latents,
    not rows × d². How the rows are cut into batches changes nothing (but for rounding of D).

    Parameters
    ----------
    d_sae : int
        Number of latents.
    threshold : float
        A code at or below it doesn't count as firing (the authors' 0.001).
    top : int
        Patches kept per latent, with their whole codes.
    device : str or torch.device
        Where the tables are; codes are moved there.
    """

    def __init__(
        self, d_sae: int, *, threshold: float = 1e-3, top: int = 30, device: str | torch.device = "cpu"
    ) -> None:
        check_range("d_sae", d_sae, 1)
        check_range("threshold", threshold, 0)
        check_range("top", top, 1)
        self.d_sae = d_sae
        self.threshold = threshold
        self.rows = 0
        self._joint, self._mass = wide(torch.zeros(2, d_sae, d_sae, device=device))
        self._top = Top(d_sae, top, device)

    @torch.no_grad()
    def update(self, codes: Tensor | SparseCodes) -> Cooccurrence:
        """Add patches.

        Parameters
        ----------
        codes : Tensor or SparseCodes
            `(…, d_sae)`.

        Returns
        -------
        Cooccurrence
            Itself.

        Raises
        ------
        ValueError
            Another width, no rows, NaN or infinity.
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
        device = self._joint.device
        values = codes.values.detach()
        on = values > self.threshold
        entries = (part[on].to(device) for part in (values, codes.pattern.rows, codes.pattern.columns))
        return SparseCodes.from_entries(*entries, (codes.shape.numel() // self.d_sae, self.d_sae))

    def _add_sparse(self, codes: SparseCodes) -> None:
        columns = codes.pattern.columns
        values = wide(codes.values)
        for left, right in _pairs(codes):
            at = columns[left] * self.d_sae + columns[right]  # place in the flat table
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
            self._joint += wide(fires.T @ fires)
            self._mass += wide(part.T @ fires)


def _pairs(codes: SparseCodes) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs (left, right) of entries of the same row, some rows at a time.

    Rows with 2 and 1 entries, numbered 0, 1 and 2, have the pairs left 0 0 1 1 2, right 0 1 0 1 2: each entry is as
    often on the left as its row has entries, and counts through them on the right. Worked out in turn: `entries` 0 1 2;
    `partners` (entries of the own row) 2 2 1; `left` repeats each so often; `step` counts 0 1 0 1 0 within these
    repeats; `right` starts from the row's first entry, 0 0 0 0 2.
    """
    pattern = codes.pattern
    active = pattern.offsets.diff()
    for first, last in _parts(active):
        begin, end = (int(pattern.offsets[row]) for row in (first, last))
        entries = torch.arange(begin, end, device=active.device)
        partners = active[pattern.rows[entries]]
        left = torch.repeat_interleave(entries, partners)
        repeats_begin = torch.repeat_interleave(partners.cumsum(0) - partners, partners)
        step = torch.arange(len(left), device=active.device) - repeats_begin
        right = pattern.offsets[pattern.rows[left]] + step
        yield left, right


def _parts(active: Tensor) -> Iterator[tuple[int, int]]:
    """Rows first … last-1 at a time, so many that they have about `PAIRS` pairs; a row of n entries has n²."""
    pairs_so_far = active.square().cumsum(0)
    part = (pairs_so_far - 1).clamp_min(0) // PAIRS
    ends = torch.unique_consecutive(part, return_counts=True)[1].cumsum(0).tolist()
    yield from pairwise([0, *ends])
