"""The cut-down world of eight concepts shows what its labels say."""

import torch

from shared import worlds

NONE = torch.zeros(6, 8)


def images(**on):
    Y = NONE.clone()
    for name in on:
        Y[:, worlds.IMAGE_CONCEPTS.index(name.replace("_", " "))] = 1
    return worlds.concept_images(Y, generator=5)


def test_counterfactuals_change_where_they_should():
    plain = images()
    assert plain.shape == (6, 3, 32, 32)
    assert torch.equal(plain, images())
    changed = (plain != images(watermark=1)).any(1)
    assert changed[:, 20:, 20:].any(2).any(1).all()
    assert not changed[:, :16].any()
    word = (plain != images(word=1)).any(1)
    assert word[:, :8].any(2).any(1).all()
    assert not word[:, 16:].any()
    border = (plain != images(border=1)).any(1)
    assert border[:, 0].all()
    assert not border[:, 10:20, 10:20].any()


def test_brightness_colour_place_and_size():
    def colourful(x):
        return x.amax(1) - x.amin(1) > 0.3

    plain = images()
    assert (images(dark=1).mean((1, 2, 3)) < plain.mean((1, 2, 3)) - 0.2).all()
    shape = colourful(plain)
    columns = torch.arange(32.0)
    centre = (shape * columns).sum((1, 2)) / shape.sum((1, 2))
    moved = colourful(images(left=1))
    assert (centre > 17).all()
    assert ((moved * columns).sum((1, 2)) / moved.sum((1, 2)) < 15).all()
    assert (colourful(images(large=1)).sum((1, 2)) > 1.5 * shape.sum((1, 2))).all()
    red = images(red=1)
    inside = colourful(red)
    assert ((red[:, 0] - red[:, 1:].amax(1))[inside] > 0.2).all()
    other = (plain[:, 0] - plain[:, 1:].amax(1))[shape]
    assert (other < 0.2).all()


def test_stripes_keep_the_outline():
    plain, striped = images(large=1), images(large=1, striped=1)
    changed = (plain - striped).abs().amax(1) > 0.2
    assert changed.any(2).any(1).all()
    assert not changed[:, :5].any()
