"""Captions say what the factors say."""

import pytest
import torch

from shared import worlds


def test_sentences_by_hand():
    values = {
        "shape": torch.tensor([[3, 8], [9, 1]]),
        "colour": torch.tensor([[1, 3], [4, 1]]),
        "present": torch.tensor([[1, 1], [1, 0]]),
    }
    values |= {"texture": torch.tensor([[1, 0], [0, 2]]), "radius": torch.tensor([[0.15, 0.24], [0.24, 0.24]])}
    values |= {"word": torch.tensor([0, 2]), "background": "barred", "shade": "dark"}
    world = worlds.shapes_world(2, generator=0, n_objects=2, words=("cat", "dog"), values=values)
    assert worlds.shape_captions(world, background=1.0) == [
        "a small striped orange star and a large green orange on a dark barred background",
        'a large blue star fish on a dark barred background with the text "dog"',
    ]
    assert worlds.shape_captions(world, keep=0.0, word=0.0) == ["a star and an orange", "a star fish"]


def test_orange_is_a_colour_and_a_fruit():
    both = {"shape": ["orange", "square"], "colour": ["orange", "blue"]}
    world = worlds.shapes_world(200, generator=0, values=both | {"texture": "plain"})
    said = set(worlds.shape_captions(world))
    assert {"a large orange orange", "a small orange square", "a small blue orange", "a large blue square"} <= said


def test_deterministic_and_partial():
    world = worlds.shapes_world(300, generator=0, rates={"word": 0.5})
    some = worlds.shape_captions(world, keep=0.5, generator=1)
    assert some == worlds.shape_captions(world, keep=0.5, generator=torch.Generator().manual_seed(1))
    assert some != worlds.shape_captions(world, keep=0.5, generator=2)
    told = sum(any(colour in text.split() for colour in worlds.COLOURS) for text in some)
    assert 100 < told < 200  # 300 at one half, 4.5 standard deviations are 39
    assert sum('with the text "' in text for text in some) == int((world.factors["word"] > 0).sum())


def test_bad_rate_is_named():
    with pytest.raises(ValueError, match="keep=2 is out of range"):
        worlds.shape_captions(worlds.shapes_world(1, generator=0), keep=2)
