"""Batches with and without masks, and masks stored as colours."""

from __future__ import annotations

import itertools

import pytest
import torch

from shared.vision import mixed_batches, palette_classes


def batches(masked, unmasked, n, **options):
    stream = mixed_batches(masked, unmasked, generator=torch.Generator().manual_seed(0), **options)
    return list(itertools.islice(stream, n))


def test_half_of_each_batch_has_masks_on_average():
    found = batches(torch.arange(7), torch.arange(100, 140), 400, batch_size=9)
    with_masks = torch.tensor([len(a) for a, _ in found])
    assert all(len(a) + len(b) == 9 for a, b in found)
    assert set(with_masks.tolist()) == {4, 5}
    assert abs(with_masks.double().mean() - 4.5) < 0.1


def test_each_kind_is_gone_through_before_a_row_comes_again():
    found = batches(torch.tensor([3, 5, 8]), torch.arange(100, 120), 40, batch_size=6)
    for kind, rows in ((0, {3, 5, 8}), (1, set(range(100, 120)))):
        order = torch.cat([batch[kind] for batch in found]).tolist()
        rounds = [order[i : i + len(rows)] for i in range(0, len(order) - len(rows) + 1, len(rows))]
        assert all(set(part) == rows for part in rounds)
        assert len({tuple(part) for part in rounds}) > 1


def test_one_mask_comes_in_every_batch():
    one = batches(torch.tensor([4]), torch.arange(9), 20, batch_size=3, share=0)
    assert all(a.tolist() == [4] and len(b) == 2 for a, b in one)


def test_no_mask_at_all_is_an_error():
    with pytest.raises(ValueError, match="masked is empty"):
        mixed_batches(torch.arange(0), torch.arange(5), generator=torch.Generator())
    with pytest.raises(ValueError, match="unmasked is empty"):
        mixed_batches(torch.arange(5), torch.arange(0), generator=torch.Generator())
    with pytest.raises(ValueError, match="masked has dtype"):
        mixed_batches(torch.rand(3), torch.arange(5), generator=torch.Generator())


def test_colours_of_pascal():
    """The palette's first and last classes as the data set's page lists them; the seam is no class."""
    colours = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0), 15: (192, 128, 128)}
    colours |= {20: (0, 64, 128), -1: (224, 224, 192)}
    image = torch.tensor(list(colours.values())).T.reshape(3, 2, 4) / 255
    assert palette_classes(image).flatten().tolist() == list(colours)
    assert palette_classes(image, n_classes=3, ignore=255).flatten().tolist() == [0, 1, 2, *[255] * 5]
    with pytest.raises(ValueError, match="colours must hold values in"):
        palette_classes(image * 255)
