"""Resizing, normalising and grids."""

import numpy as np
import pytest
import torch
from PIL import Image

from shared import vision

MEAN, STD = (0.498, 0.4, 0.3), (0.502, 0.2, 0.1)


def test_resize_is_pillows_bilinear():
    image = torch.rand(3, 90, 131, generator=torch.Generator().manual_seed(0))
    levels = (image * 255).round()
    pillow = Image.fromarray(levels.byte().permute(1, 2, 0).numpy()).resize((64, 48), Image.Resampling.BILINEAR)
    ours = vision.resize(levels[None], (48, 64))[0]
    assert (ours - torch.tensor(np.asarray(pillow)).permute(2, 0, 1)).abs().max() <= 1.0  # Pillow rounds twice


def test_resize_of_a_list_and_crop():
    wide = torch.zeros(3, 20, 60)
    wide[:, :, 20:40] = 1
    assert vision.resize([wide, torch.ones(3, 50, 40)], 32).shape == (2, 3, 32, 32)
    assert torch.allclose(vision.resize([wide], 16, crop=True), torch.ones(1, 3, 16, 16))
    assert vision.resize(torch.rand(2, 1, 28, 28), 28).shape == (2, 1, 28, 28)


def test_normalise_and_back():
    images = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    inputs = vision.normalise(images, MEAN, STD)
    assert torch.allclose(inputs[:, 1], (images[:, 1] - 0.4) / 0.2)
    assert torch.allclose(vision.denormalise(inputs, MEAN, STD), images, atol=1e-6)
    assert vision.denormalise(inputs * 100, MEAN, STD).max() <= 1


def test_grid_puts_cells_where_cell_mask_says():
    images = torch.arange(8.0).view(2, 4, 1, 1, 1).expand(2, 4, 3, 5, 7)
    scene = vision.image_grid(images)
    assert scene.shape == (2, 3, 10, 14)
    for cell in range(4):
        mask = vision.cell_mask(torch.tensor([cell, cell]), (5, 7))
        for b in range(2):
            assert bool((scene[b, 0][mask[b]] == 4 * b + cell).all())
            assert mask[b].sum() == 35
    assert vision.image_grid(torch.rand(1, 6, 1, 4, 4), columns=3).shape == (1, 1, 8, 12)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="images is empty"):
        vision.resize([], 8)
    with pytest.raises(ValueError, match=r"images has shape \(3, 8, 8\)"):
        vision.resize(torch.rand(3, 8, 8), 8)
    with pytest.raises(ValueError, match="images has 1 NaN"):
        vision.resize(torch.tensor([[[[float("nan")]]]]), 8)
    with pytest.raises(ValueError, match="size=0 is out of range"):
        vision.resize(torch.rand(1, 3, 8, 8), 0)
    with pytest.raises(ValueError, match="mean has 2 values for images of 3 channels"):
        vision.normalise(torch.rand(1, 3, 8, 8), (0, 0), (1, 1))
    with pytest.raises(ValueError, match=r"inputs has shape \(8, 8\)"):
        vision.denormalise(torch.rand(8, 8), (0,), (1,))
    with pytest.raises(ValueError, match="columns=3 doesn't divide the 4 images"):
        vision.image_grid(torch.rand(1, 4, 3, 8, 8), columns=3)
    with pytest.raises(ValueError, match="cell must be from 0 to 3"):
        vision.cell_mask(torch.tensor([4]), (8, 8))


def test_random_crops_are_where_their_corners_say():
    image = torch.arange(3 * 20 * 30.0).view(3, 20, 30)
    crops, corners = vision.random_crops(image, 50, 8, generator=np.random.default_rng(0))
    assert all(torch.equal(c, image[:, t : t + 8, s : s + 8]) for c, (t, s) in zip(crops, corners.tolist()))
    assert len(corners.unique(dim=0)) > 30
    assert corners.max(0).values.tolist() <= [12, 22]
    whole, corners = vision.random_crops(image, 3, 10, generator=np.random.default_rng(0), least=20)
    assert torch.equal(corners[:, 0], torch.zeros(3, dtype=torch.int64))
    assert whole.shape == (3, 3, 10, 10)
    with pytest.raises(ValueError, match="side=21 is out of range"):
        vision.random_crops(image, 1, 21, generator=np.random.default_rng(0))
