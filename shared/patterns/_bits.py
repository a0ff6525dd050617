"""Sets of rows as packed 64-bit words: one bit a row, counted with `np.bitwise_count`."""

from __future__ import annotations

import numpy as np

WORD = 64


def words_for(rows: int) -> int:
    """How many 64-bit words hold `rows` bits."""
    return -(-rows // WORD)


def pack(groups: np.ndarray, positions: np.ndarray, n_groups: int, n_words: int) -> np.ndarray:
    """Pack (group, bit position) pairs into words (n_groups, n_words) uint64; time and memory follow the pairs.

    groups, positions : (nnz,) int, sorted by group, then by position, without duplicates.
    """
    out = np.zeros(n_groups * n_words, dtype=np.uint64)
    if len(positions):
        slot = groups.astype(np.int64) * n_words + (positions >> 6)
        bit = np.uint64(1) << (positions & 63).astype(np.uint64)
        start = np.flatnonzero(np.r_[True, slot[1:] != slot[:-1]])
        out[slot[start]] = np.add.reduceat(bit, start)  # distinct bits: the sum is their union
    return out.reshape(n_groups, n_words)


def unpack(words: np.ndarray) -> np.ndarray:
    """The positions of the set bits of words (W,), ascending, as int64."""
    return np.flatnonzero(np.unpackbits(np.ascontiguousarray(words).view(np.uint8), bitorder="little"))


def count(words: np.ndarray) -> np.ndarray:
    """Number of set bits along the last axis, int64; no other axes: a scalar."""
    return np.bitwise_count(words).sum(axis=-1, dtype=np.int64)


def exactly_one(columns: np.ndarray) -> np.ndarray:
    """Bits set in exactly one of the columns: (..., k, W) to (..., W)."""
    once = columns[..., 0, :].copy()
    twice = np.zeros_like(once)
    for k in range(1, columns.shape[-2]):
        twice |= once & columns[..., k, :]
        once |= columns[..., k, :]
    return once & ~twice


def columns_or_empty(columns: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The packed columns (K, W) of items (K,); no row for item -1, which stands for "none"."""
    return np.where(items[:, None] >= 0, columns[np.maximum(items, 0)], np.uint64(0))
