"""AttnLRP on shipped transformers that differ in one thing we planted: a watermark that gives stars away."""

import pytest
import torch

from shared import zoo
from shared.lrp import AttnLRP, attribute
from shared.worlds import BASIC_SHAPES, shapes_world


@pytest.fixture(scope="module")
def marked():
    """Large shapes that are no stars, each with the watermark."""
    shapes = [shape for shape in BASIC_SHAPES if shape != "star"]
    values = {"shape": shapes, "size": "large", "texture": "plain", "watermark": "logo"}
    return shapes_world(24, generator=torch.Generator().manual_seed(3), values=values, noise=0.05)


def share_on_watermark(name, world):
    """Share of the star logit's positive relevance that lies on the watermark."""
    loaded = zoo.load_model(name)
    star = torch.full((len(world),), loaded.info.classes.index("star"))
    relevance = attribute(loaded.model, loaded.preprocess(world.images), star, composite=AttnLRP()).pixels.clamp(min=0)
    on = (relevance * world.masks["watermark"]).flatten(1).sum(1)
    return float((on / relevance.flatten(1).sum(1)).mean())


def test_the_watermark_explains_the_star_where_it_was_planted(marked):
    planted, clean = (share_on_watermark(name, marked) for name in ("vit-shapes-watermark", "vit-shapes"))
    assert planted > 2 * clean
    assert planted > 2 * float(marked.masks["watermark"].double().mean())
