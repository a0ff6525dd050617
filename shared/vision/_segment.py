"""Semi-supervised segmentation: batches of which a share has masks, and masks that are stored as colours."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from shared._checks import check_range, check_shape


def mixed_batches(
    masked: Tensor, unmasked: Tensor, *, generator: torch.Generator, batch_size: int = 10, share: float = 0.5
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of images with and of images without masks, batch by batch and without end.

    As in the official code of Yu et al. (2024, arXiv 2407.03009): a batch has `share · batch_size` rows with masks,
    give or take one half before rounding, but one at least; each kind goes through its own shuffled order and is
    shuffled anew when it is through, so few masks come again and again.

    Parameters
    ----------
    masked, unmasked : Tensor of int64, (n,)
        Rows, at least one of each.
    generator : torch.Generator
    batch_size : int
    share : float
        Between 0 and 1.

    Yields
    ------
    (Tensor, Tensor) of int64
        Rows with masks, rows without.

    Raises
    ------
    ValueError
        For rows that aren't whole numbers in one axis, and where no image has a mask: the background has no image
        label, so nothing would say where it is.
    """
    check_range("batch_size", batch_size, 1)
    check_range("share", share, 0, 1)
    for name, rows in (("masked", masked), ("unmasked", unmasked)):
        check_shape(name, rows, ("n",))
        if rows.is_floating_point() or rows.is_complex():
            raise ValueError(f"{name} has dtype {rows.dtype}; expected whole numbers, the rows of images")
    if len(masked) == 0:
        raise ValueError("masked is empty: at least one image needs a mask, or the background's map is arbitrary")
    if len(unmasked) == 0:
        raise ValueError("unmasked is empty: where all images have masks, give the same rows for both")
    return _batches(_Deck(masked, generator), _Deck(unmasked, generator), batch_size, share, generator)


def _batches(
    masked: _Deck, unmasked: _Deck, batch_size: int, share: float, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        wobble = float(torch.rand((), generator=generator)) - 0.5
        n = min(max(round(batch_size * share + wobble), 1), batch_size)
        yield masked.take(n), unmasked.take(batch_size - n)


class _Deck:
    """Rows in shuffled order, shuffled again when all were taken."""

    def __init__(self, rows: Tensor, generator: torch.Generator) -> None:
        self.rows, self.generator = rows, generator
        self.left = rows[:0]

    def take(self, n: int) -> Tensor:
        while len(self.left) < n:
            order = torch.randperm(len(self.rows), generator=self.generator).to(self.rows.device)
            self.left = torch.cat([self.left, self.rows[order]])
        taken, self.left = self.left[:n], self.left[n:]
        return taken


def palette_classes(colours: Tensor, *, n_classes: int = 21, ignore: int = -1) -> Tensor:
    """Classes of a mask that is stored in the colours of PASCAL VOC.

    Class c has the colour whose red, green and blue bytes hold, from the highest bit down, the bits 0, 1, 2 of c, then
    3, 4, 5 and so on; the seam around objects (class 255) and anything else is ignored.

    Parameters
    ----------
    colours : Tensor, (3, H, W)
        In [0, 1].
    n_classes : int
        With the background, at most 255.
    ignore : int
        For all other colours.

    Returns
    -------
    Tensor of int64, (H, W)

    Raises
    ------
    ValueError
        For another shape or values out of range.
    """
    check_shape("colours", colours, (3, "H", "W"))
    check_range("n_classes", n_classes, 1, 255)
    if colours.numel() == 0 or not bool(((colours >= 0) & (colours <= 1)).all()):
        raise ValueError("colours must hold values in [0, 1]")
    known = torch.arange(n_classes)
    bits = sum(((known >> (3 * k + torch.arange(3)[:, None])) & 1) << (7 - k) for k in range(3))  # (3, n_classes)
    weight = torch.tensor([2**16, 2**8, 1])
    codes = (bits * weight[:, None]).sum(0)
    found = ((colours.cpu() * 255).round().long() * weight[:, None, None]).sum(0)
    order = codes.argsort()
    at = torch.searchsorted(codes[order], found).clamp_max(n_classes - 1)
    return torch.where(codes[order][at] == found, order[at], ignore).to(colours.device)
