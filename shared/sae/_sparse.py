"""Sparse codes: fused selection of the largest pre-activations, sparse decoding, and their gradients.

With k of d_sae latents active, only the encoder's forward product is dense (2·B·d_in·d_sae operations). Decoding and
every gradient touch B·k rows of the matrices. All of them are one operation, a weighted sum of rows per bag
(`torch.nn.functional.embedding_bag`): bags are the samples when decoding, the latents in a weight gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 4 * 2**20  # pre-activations held at once on a CPU (16 MB in float32): they stay in the cache until selected


class Pattern:
    """Which latents are active where: `columns` `(nnz,)`, grouped by row; row i has `offsets[i]:offsets[i + 1]`."""

    def __init__(self, columns: Tensor, offsets: Tensor, width: int) -> None:
        self.columns = columns
        self.offsets = offsets
        self.width = width

    @cached_property
    def rows(self) -> Tensor:
        """Row of every entry `(nnz,)`."""
        counts = self.offsets.diff()
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    @cached_property
    def by_column(self) -> tuple[Tensor, Tensor]:
        """Order of the entries by column (stable), and where each column's entries begin in it."""
        counts = torch.bincount(self.columns, minlength=self.width)
        return self.columns.argsort(stable=True), offsets_of(counts)

    def entries_of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of the entries of these rows one after the other, and for each which of `rows` it belongs to.

        With rows of 2, 0 and 3 entries, `entries_of([2, 0])` is `[2, 3, 4, 0, 1]` and `[0, 0, 0, 1, 1]`.
        """
        counts = self.offsets.diff()[rows]
        owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        within = torch.arange(len(owner), device=rows.device) - offsets_of(counts)[owner]
        return self.offsets[rows][owner] + within, owner


def offsets_of(counts: Tensor) -> Tensor:
    """Begin of each bag, and the end of the last, from the bags' sizes."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


@dataclass
class SparseCodes:
    """Codes that hold few non-zeros.

    Parameters
    ----------
    values : Tensor
        `(nnz,)`.
    pattern : Pattern
        Their places: `pattern.columns` `(nnz,)` by row, row i from `pattern.offsets[i]` on.
    shape : torch.Size
        Of the dense tensor, `(…, d_sae)`.
    """

    values: Tensor
    pattern: Pattern
    shape: torch.Size

    @classmethod
    def from_dense(cls, codes: Tensor) -> SparseCodes:
        """Sparse form of dense codes; gradients flow to the entries that are not zero.

        Parameters
        ----------
        codes : Tensor
            `(…, d_sae)`.

        Returns
        -------
        SparseCodes
            Of the same shape.
        """
        flat = codes.reshape(-1, codes.shape[-1])
        rows, columns = flat.detach().nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=len(flat))
        return cls(flat[rows, columns], Pattern(columns, offsets_of(counts), codes.shape[-1]), codes.shape)

    @classmethod
    def from_entries(cls, values: Tensor, rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> SparseCodes:
        """Codes from entries that are ordered by row.

        Parameters
        ----------
        values : Tensor
            `(nnz,)`.
        rows, columns : Tensor
            Int64 `(nnz,)`; rows ascending.
        shape : tuple of int
            `(n, d_sae)`.

        Returns
        -------
        SparseCodes
            Of that shape.
        """
        offsets = offsets_of(torch.bincount(rows, minlength=shape[0]))
        return cls(values, Pattern(columns, offsets, shape[1]), torch.Size(shape))

    @classmethod
    def stack(cls, parts: Sequence[SparseCodes]) -> SparseCodes:
        """Tables one below the other.

        Parameters
        ----------
        parts : sequence of SparseCodes
            `(n_i, d_sae)` each, at least one.

        Returns
        -------
        SparseCodes
            `(Σ n_i, d_sae)`.
        """
        counts = torch.cat([part.pattern.offsets.diff() for part in parts])
        columns = torch.cat([part.pattern.columns for part in parts])
        values = torch.cat([part.values for part in parts])
        width = parts[0].pattern.width
        return cls(values, Pattern(columns, offsets_of(counts), width), torch.Size((len(counts), width)))

    def take(self, rows: Tensor) -> SparseCodes:
        """Some rows of a table.

        Parameters
        ----------
        rows : Tensor
            Int64 `(m,)`.

        Returns
        -------
        SparseCodes
            `(m, d_sae)`.
        """
        entries, _ = self.pattern.entries_of(rows)
        offsets = offsets_of(self.pattern.offsets.diff()[rows])
        pattern = Pattern(self.pattern.columns[entries], offsets, self.pattern.width)
        return SparseCodes(self.values[entries], pattern, torch.Size((len(rows), self.pattern.width)))

    def dense(self) -> Tensor:
        """The dense `(…, d_sae)` tensor."""
        flat = self.values.new_zeros(self.shape.numel())
        at = self.pattern.rows * self.pattern.width + self.pattern.columns
        return flat.index_put((at,), self.values).reshape(self.shape)

    def l0(self) -> Tensor:
        """Mean number of values above zero per row."""
        return (self.values.detach() > 0).sum() / max(1, len(self.pattern.offsets) - 1)

    def fired(self) -> Tensor:
        """Latents with a value above zero somewhere, bool `(d_sae,)`."""
        fired = torch.zeros(self.pattern.width, dtype=torch.bool, device=self.values.device)
        fired[self.pattern.columns[self.values.detach() > 0]] = True
        return fired

    def matmul(self, weight: Tensor) -> Tensor:
        """`dense() @ weight`, with gradients for both.

        Parameters
        ----------
        weight : Tensor
            `(d_sae, d)`.

        Returns
        -------
        Tensor
            `(…, d)`.
        """
        return bag(self.values, weight, self.pattern).reshape(*self.shape[:-1], weight.shape[1])

    def by_level(self, widths: tuple[int, ...]) -> SparseCodes:
        """The codes of each level apart, level by level.

        Parameters
        ----------
        widths : tuple of int
            Cumulative widths of the levels.

        Returns
        -------
        SparseCodes
            `(levels·rows, d_sae)`.
        """
        bounds = torch.tensor(widths, device=self.values.device)
        rows = len(self.pattern.offsets) - 1
        level = torch.bucketize(self.pattern.columns, bounds, right=True)
        new_row = level * rows + self.pattern.rows
        order = new_row.argsort(stable=True)
        offsets = offsets_of(torch.bincount(new_row, minlength=rows * len(widths)))
        pattern = Pattern(self.pattern.columns[order], offsets, self.pattern.width)
        return SparseCodes(self.values[order], pattern, torch.Size((rows * len(widths), self.pattern.width)))


def _sum_rows(weight: Tensor, index: Tensor, offsets: Tensor, scale: Tensor) -> Tensor:
    """Per bag the sum of `scale * weight[index]`."""
    return F.embedding_bag(
        index, weight, offsets, mode="sum", per_sample_weights=scale.to(weight), include_last_offset=True
    )


def _weight_gradient(pattern: Pattern, scale: Tensor, rows: Tensor) -> Tensor:
    """`dense.T @ rows` of the codes with values `scale`: `(d_sae, d)`."""
    order, offsets = pattern.by_column
    return _sum_rows(rows, pattern.rows[order], offsets, scale[order])


class _Bag(torch.autograd.Function):
    """Sparse codes times a dense matrix."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.pattern = pattern
        return _sum_rows(weight, pattern.columns, pattern.offsets, values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, weight = ctx.saved_tensors
        pattern, grad = ctx.pattern, grad.contiguous()
        to_values = _row_dots(grad, weight, pattern) if ctx.needs_input_grad[0] else None
        to_weight = _weight_gradient(pattern, values, grad) if ctx.needs_input_grad[1] else None
        return to_values, to_weight, None


class _EncodeAt(torch.autograd.Function):
    """Pre-activations at a pattern, already computed while selecting; the gradient touches only those entries."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_enc: Tensor, b_enc: Tensor, values: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(x, w_enc)
        ctx.pattern = pattern
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w_enc = ctx.saved_tensors
        pattern, need = ctx.pattern, ctx.needs_input_grad
        columns, offsets = pattern.columns, pattern.offsets
        to_x = _sum_rows(w_enc.T.contiguous(), columns, offsets, grad) if need[0] else None
        to_w = _weight_gradient(pattern, grad, x).T if need[1] else None
        to_b = grad.new_zeros(pattern.width).index_add_(0, columns, grad) if need[2] else None
        return to_x, to_w, to_b, None, None


def _row_dots(grad: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """`grad[row] · weight[column]` of every entry, without gathering the rows."""
    backward = torch.ops.aten._embedding_bag_per_sample_weights_backward
    return backward(grad, weight, pattern.columns, pattern.offsets[:-1], pattern.rows, 0, -1)


def bag(values: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Rows of `codes @ weight`, `(rows, d)`; differentiable in `values` `(nnz,)` and `weight` `(d_sae, d)`."""
    return _Bag.apply(values, weight, pattern)


def encode_at(x: Tensor, w_enc: Tensor, b_enc: Tensor, values: Tensor, pattern: Pattern) -> Tensor:
    """`(x @ w_enc + b_enc)` at `pattern`, whose `values` are known; differentiable in the first three."""
    return _EncodeAt.apply(x, w_enc, b_enc, values, pattern)


def chunks(x: Tensor, width: int) -> tuple[Tensor, ...]:
    """Rows of x in pieces whose pre-activations fit `CHUNK` on a CPU; all at once elsewhere."""
    return x.split(max(1, CHUNK // width)) if x.device.type == "cpu" else (x,)


def top_k(z: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row `(rows, width)` and where they are, unordered.

    Exact, in two stages: the k largest entries lie in the k groups (strided columns) with the largest maxima, so a
    vectorized maximum and a search among `k * group` candidates replace one among all columns.
    """
    rows, width = z.shape
    group = 2 ** round(math.log2(max(1.0, width / k)) / 2)
    n = width // group
    if group < 4 or n <= k:
        found = z.topk(k, sorted=False)
        return found.values, found.indices
    maxima = z[:, : group * n].reshape(rows, group, n).amax(1)
    best = maxima.topk(k, sorted=False).indices
    steps = n * torch.arange(group, device=z.device)
    candidates = (best[:, None, :] + steps[:, None]).flatten(1)
    if rest := width - group * n:
        tail = torch.arange(group * n, width, device=z.device).expand(rows, rest)
        candidates = torch.cat([candidates, tail], 1)
    found = z.gather(1, candidates).topk(k, sorted=False)
    return found.values, candidates.gather(1, found.indices)


def batch_top_k(z: Tensor, count: int, group: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` largest positive entries of the whole `(rows, width)` batch: values, rows, columns, by row.

    Exact: the count-th largest group maximum is a lower bound of the count-th largest entry, so the search is among
    the groups whose maximum reaches it. Fewer come back if fewer are positive.
    """
    rows, width = z.shape
    pad = -width % group
    n = (width + pad) // group
    grouped = (F.pad(z, (0, pad), value=float("-inf")) if pad else z).view(rows, group, n)
    maxima = grouped.amax(1)
    bound = maxima.new_zeros(())
    if count < maxima.numel():
        bound = maxima.flatten().topk(count, sorted=False).values.min().clamp_min(0)
    row, slot = (maxima > 0).logical_and_(maxima >= bound).nonzero(as_tuple=True)
    block = grouped[row, :, slot]
    which, inner = ((block > 0) & (block >= bound)).nonzero(as_tuple=True)
    values = block[which, inner]
    if len(values) > count:
        keep = values.topk(count, sorted=False).indices.sort().values
        values, which, inner = values[keep], which[keep], inner[keep]
    return values, row[which], slot[which] + n * inner


def select(x: Tensor, w_enc: Tensor, b_enc: Tensor, k: float, over_batch: bool) -> tuple[Tensor, Pattern]:
    """Largest pre-activations of rows x `(rows, d_in)`: k of each row, or `k * rows` of the batch. No gradient."""
    width = w_enc.shape[1]
    with torch.no_grad():
        if over_batch:
            z = torch.addmm(b_enc, x, w_enc)
            values, rows, columns = batch_top_k(z, max(1, int(k * len(x))))
            return values, Pattern(columns, offsets_of(torch.bincount(rows, minlength=len(x))), width)
        found = [top_k(torch.addmm(b_enc, part, w_enc), int(k)) for part in chunks(x, width)]
        values, columns = (torch.cat(parts).flatten() for parts in zip(*found, strict=True))
        offsets = torch.arange(0, len(columns) + 1, int(k), device=x.device)
        return values, Pattern(columns, offsets, width)
