"""Scenes for segmentation agree with the world that they are made of."""

from __future__ import annotations

import pytest
import torch

from shared.worlds import SCENE_SHAPES, shape_scenes


def test_masks_and_labels_agree_and_show_what_is_drawn():
    images, masks, labels = shape_scenes(60, generator=0)
    assert images.shape == (60, 3, 24, 24)
    for c in range(len(SCENE_SHAPES)):
        assert torch.equal((masks == c + 1).flatten(1).any(1), labels[:, c].bool())
    assert set(labels.sum(1).tolist()) == {1.0, 2.0}
    assert 0.05 < (masks > 0).double().mean() < 0.3
    saturation = images.amax(1) - images.amin(1)  # grounds are grey but for the noise, objects are coloured
    assert saturation[masks > 0].mean() > 3 * saturation[masks == 0].mean()


def test_seeds_sizes_and_shapes():
    one, other = shape_scenes(5, generator=3), shape_scenes(5, generator=torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], shape_scenes(5, generator=4)[0])
    images, masks, labels = shape_scenes(4, generator=0, shapes=["star", "square"], size=33, n_objects=1)
    assert images.shape[2:] == masks.shape[1:] == (33, 33)
    assert labels.sum(1).tolist() == [1.0] * 4
    with pytest.raises(ValueError, match="shape"):
        shape_scenes(4, generator=0, shapes=["blob"])
