"""Planted flaws: wrong labels, merged classes, marks."""

import pytest
import torch

from shared.worlds import add_mark, flip_labels, group_labels, mark_mask


def rng():
    return torch.Generator().manual_seed(0)


def test_flaws_are_where_they_are_said_to_be():
    y = torch.arange(200) % 10
    wrong, flipped = flip_labels(y, 0.3, 10, generator=rng())
    assert int(flipped.sum()) == 60
    assert torch.equal(wrong != y, flipped)
    assert int(wrong.min()) >= 0
    assert int(wrong.max()) <= 9
    assert group_labels(y, [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]).tolist() == (y // 2).tolist()
    x = torch.rand(4, 3, 12, 10, generator=rng())
    marked = add_mark(x, torch.tensor([True, False, True, False]), frame=1, square=4)
    mask = mark_mask(12, 10, frame=1, square=4)
    assert int(mask.sum()) == 2 * 10 + 2 * 10 + 16
    assert (marked[0][:, mask] == 1).all()
    assert torch.equal(marked[1], x[1])
    assert torch.equal(marked[2][:, ~mask], x[2][:, ~mask])


def test_flaws_name_what_they_cannot_take():
    labels = torch.arange(40) % 4
    with pytest.raises(ValueError, match=r"class \[3\]"):
        group_labels(labels, [[0, 1], [2]])
    with pytest.raises(ValueError, match=r"share=1\.3"):
        flip_labels(labels, 1.3, 4, generator=rng())
    with pytest.raises(ValueError, match="square=9"):
        mark_mask(8, 12, square=9)
