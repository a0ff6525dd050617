"""Planted flaws: wrong labels, merged classes, marks."""

import pytest
import torch

from shared.worlds import FLAWS, add_foreign, add_mark, flip_labels, group_labels, mark_mask, plant_flaw


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


def test_a_planted_flaw_is_one_of_the_four_and_says_where():
    x, y, tests = torch.rand(200, 1, 12, 10, generator=rng()), torch.arange(200) % 10, torch.rand(3, 1, 12, 10)
    found = {flaw: plant_flaw(x, y, tests, flaw, n_classes=10, generator=rng(), share=0.5) for flaw in FLAWS}
    assert torch.equal(found["standard"].x, x)
    assert torch.equal(found["standard"].y, y)
    assert found["groups"].y.tolist() == (y // 2).tolist()
    assert (found["groups"].n_classes, found["mark"].n_classes) == (5, 10)
    assert torch.equal(found["wrong labels"].y != y, found["wrong labels"].truth)
    marked, mask = found["mark"], mark_mask(12, 10)
    assert set(y[marked.truth].tolist()) == {2}
    assert 0 < int(marked.truth.sum()) < 20
    assert torch.equal((marked.x[:, 0, mask] == 1).all(1), marked.truth)
    assert (marked.tests[:, 0, mask] == 1).all()


def test_flaws_name_what_they_cannot_take():
    labels = torch.arange(40) % 4
    with pytest.raises(ValueError, match=r"class \[3\]"):
        group_labels(labels, [[0, 1], [2]])
    with pytest.raises(ValueError, match=r"share=1\.3"):
        flip_labels(labels, 1.3, 4, generator=rng())
    with pytest.raises(ValueError, match="square=9"):
        mark_mask(8, 12, square=9)


def test_foreign_data_come_last_under_one_label():
    x, y, foreign = torch.rand(6, 1, 4, 4, generator=rng()), torch.arange(6) % 3, torch.rand(2, 1, 4, 4)
    mixed, labels, truth = add_foreign(x, y, foreign, 1)
    assert torch.equal(mixed[~truth], x)
    assert torch.equal(mixed[truth], foreign)
    assert torch.equal(labels[~truth], y)
    assert labels[truth].tolist() == [1, 1]
    with pytest.raises(ValueError, match="label=7 is no class of y"):
        add_foreign(x, y, foreign, 7)
    with pytest.raises(ValueError, match="foreign has shape"):
        add_foreign(x, y, foreign[..., :2], 1)
