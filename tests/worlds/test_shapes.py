"""The shapes world: what the factors say is what the pixels show."""

import math

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Polygon

from shared import worlds
from shared.worlds.shapes._font import enlarge, mark_bitmap, text_bitmap
from shared.worlds.shapes._render import DARK, LEAF, MARK_INK

ALL = {"word": 0.4, "watermark": 0.4, "border": 0.4, "tint": 0.4}


@pytest.fixture(scope="module")
def busy():
    """Everything at once, several objects, no noise."""
    values = {"shape": list(worlds.SHAPES)}
    return worlds.shapes_world(400, generator=3, n_objects=(1, 4), rates=ALL, values=values)


# --- pixels -----------------------------------------------------------------------------------------------------
def test_masks_are_disjoint_and_complete(busy):
    masks = busy.masks
    owners = masks["objects"].sum(1) + sum(masks[name].int() for name in ("background", "border", "watermark", "word"))
    assert bool((owners == 1).all())
    inside = masks["objects"].any(1)
    assert bool((inside | ~(masks["texture"] | masks["leaf"])).all())
    assert not bool((masks["texture"] & masks["leaf"]).any())
    assert bool((masks["word"] | ~masks["letters"]).all())
    for name in ("border", "word"):
        assert torch.equal(masks[name].flatten(1).any(1), busy.factors[name] > 0)
    assert bool((masks["watermark"].flatten(1).any(1) <= (busy.factors["watermark"] > 0)).all())  # a word may hide it


def test_every_pixel_has_its_factors_colour(busy):
    """Rebuild the images from masks and factors alone."""
    factors, masks = busy.factors, busy.masks
    want = torch.full_like(busy.images, torch.nan)
    colours = torch.tensor(list(worlds.COLOURS.values()))
    for k in range(factors["shape"].shape[1]):
        colour = colours[factors["colour"][:, k]][:, :, None, None]
        colour = torch.where(masks["texture"].unsqueeze(1), colour * DARK, colour)
        colour = torch.where(masks["leaf"].unsqueeze(1), torch.tensor(LEAF)[:, None, None], colour)
        want = torch.where(masks["objects"][:, k].unsqueeze(1), colour, want)
    want = torch.where(masks["border"].unsqueeze(1), 1.0, want)
    want = torch.where(masks["word"].unsqueeze(1), masks["letters"].float().unsqueeze(1), want)
    want *= torch.tensor(list(worlds.TINTS.values()))[factors["tint"]][:, :, None, None]
    known = ~(masks["background"] | masks["watermark"])
    assert torch.equal(busy.images.movedim(1, -1)[known], want.movedim(1, -1)[known])


def test_flat_background_is_the_level():
    world = worlds.shapes_world(50, generator=0, values={"background": "flat"})
    want = world.factors["level"][:, None, None].expand(-1, 64, 64)
    for channel in range(3):
        assert torch.equal(world.images[:, channel][world.masks["background"]], want[world.masks["background"]])


@pytest.mark.parametrize("background", worlds.BACKGROUNDS)
def test_backgrounds_are_grey_and_near_their_level(background):
    world = worlds.shapes_world(60, generator=0, values={"background": background})
    ground = world.images.movedim(1, -1)[world.masks["background"]]
    assert torch.equal(ground[:, 0], ground[:, 1])
    level = world.factors["level"][:, None, None].expand(-1, 64, 64)[world.masks["background"]]
    assert (ground[:, 0] - level).abs().max() <= 0.12 + 1e-6
    if background != "flat":
        assert (ground[:, 0] - level).std() > 0.03


def _corners(shape):
    """Vertices in units of the radius, y downwards, written down anew from the shapes' definitions."""
    if shape == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if shape == "triangle":
        half = 1.6 / math.sqrt(3)
        return [(0, -1), (half, 0.6), (-half, 0.6)]
    if shape == "diamond":
        return [(0, -1), (0.65, 0), (0, 1), (-0.65, 0)]
    if shape == "star":
        angles = [(i * math.pi / 5, 1 if i % 2 == 0 else 0.4) for i in range(10)]
        return [(r * math.sin(a), -r * math.cos(a)) for a, r in angles]
    a, b = 0.3, 0.95
    return [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]


@pytest.mark.parametrize("shape", ["square", "triangle", "diamond", "star", "cross"])
def test_polygons_are_where_their_corners_say(shape):
    """Against matplotlib's point-in-polygon; turned clockwise by the rotation."""
    world = worlds.shapes_world(20, generator=1, values={"shape": shape, "rotation": np.linspace(-90, 90, 20)})
    centres = (np.mgrid[0:64, 0:64][::-1].reshape(2, -1).T + 0.5) / 64
    for i in range(20):
        x, y, radius, turn = (world.factors[name][i, 0].item() for name in ("x", "y", "radius", "rotation"))
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        corners = [(x + radius * (u * cos - v * sin), y + radius * (u * sin + v * cos)) for u, v in _corners(shape)]
        want = Polygon(corners).contains_points(centres).reshape(64, 64)
        assert (world.masks["objects"][i, 0].numpy() != want).sum() <= 1  # a pixel centre may lie on an edge


@pytest.mark.parametrize(("shape", "area"), [("circle", 0.81 * math.pi), ("ring", 0.65 * math.pi)])
def test_round_areas(shape, area):
    world = worlds.shapes_world(50, generator=1, size=256, masks=True, values={"shape": shape})
    pixels = world.masks["objects"].sum((1, 2, 3)).double() / 256**2
    want = area * world.factors["radius"][:, 0].double() ** 2
    assert ((pixels - want).abs() / want).max() < 0.02


def test_objects_stay_inside():
    world = worlds.shapes_world(500, generator=2, values={"shape": list(worlds.SHAPES), "rotation": 0.0})
    assert bool((world.factors["x"] - world.factors["radius"] >= -1e-6).all())
    assert bool((world.factors["y"] + world.factors["radius"] <= 1 + 1e-6).all())
    assert world.masks["objects"].sum((1, 2, 3)).min() > 40


def test_later_objects_hide_earlier_ones():
    values = {"x": 0.5, "y": 0.5, "radius": 0.2, "shape": torch.tensor([[0, 1]]), "present": 1}
    world = worlds.shapes_world(1, generator=0, n_objects=2, values=values)
    alone = worlds.shapes_world(
        1,
        generator=0,
        values={"x": 0.5, "y": 0.5, "radius": 0.2, "shape": "square", "rotation": world.factors["rotation"][:, 1]},
    )
    assert torch.equal(world.masks["objects"][:, 1], alone.masks["objects"][:, 0])
    assert not bool(world.masks["objects"].all(1).any())


# --- words and marks --------------------------------------------------------------------------------------------
def test_font_by_hand():
    assert text_bitmap("a").int().tolist() == [[0, 1, 0], [1, 0, 1], [1, 1, 1], [1, 0, 1], [1, 0, 1]]
    assert text_bitmap("il").int().tolist()[0] == [1, 1, 1, 0, 1, 0, 0]
    assert text_bitmap("AB").shape == (5, 7)


def test_word_pixels_are_the_words():
    words = ("cat", "triangle", "12:05", "a")
    world = worlds.shapes_world(200, generator=0, words=words, rates={"word": 1.0})
    assert world.names("word") == ("none", *words)
    assert world.factors["word"].min() == 1
    for i in range(200):
        word = words[world.factors["word"][i] - 1]
        at = world.masks["word"][i].nonzero()
        (top, left), (bottom, right) = at.min(0).values, at.max(0).values
        shown = world.masks["letters"][i, top : bottom + 1, left : right + 1]
        scale = 2 if len(word) < 8 else 1
        assert torch.equal(shown, torch.nn.functional.pad(enlarge(text_bitmap(word), scale), (scale,) * 4))
        assert world.masks["word"][i, top : bottom + 1, left : right + 1].all()


@pytest.mark.parametrize("corner", worlds.CORNERS)
def test_watermark_stands_in_its_corner(corner):
    world = worlds.shapes_world(3, generator=0, values={"watermark": "logo", "corner": corner})
    y, x = (slice(1, 13) if side in corner else slice(51, 63) for side in ("top", "left"))
    want = torch.zeros(64, 64, dtype=torch.bool)
    want[y, x] = True
    assert torch.equal(world.masks["watermark"], want.expand(3, -1, -1))
    want = torch.where(mark_bitmap("logo"), torch.tensor(MARK_INK)[:, None, None], 0.0)
    assert torch.equal(world.images[:, :, y, x], want.expand(3, -1, -1, -1))
    assert MARK_INK not in worlds.COLOURS.values()


# --- drawing ----------------------------------------------------------------------------------------------------
def test_same_seed_same_world():
    one, two = (worlds.shapes_world(70, generator=5, rates=ALL, noise=0.1) for _ in range(2))
    three = worlds.shapes_world(70, generator=torch.Generator().manual_seed(5), rates=ALL, noise=0.1)
    other = worlds.shapes_world(70, generator=6, rates=ALL, noise=0.1)
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.images, three.images)
    assert not torch.equal(one.images, other.images)
    assert all(torch.equal(one.factors[name], two.factors[name]) for name in worlds.SHAPE_FACTORS)


def test_setting_a_factor_leaves_the_others():
    free = worlds.shapes_world(100, generator=0, rates=ALL)
    red = worlds.shapes_world(100, generator=0, rates=ALL, values={"colour": "red", "shade": "dark"})
    assert bool((red.factors["colour"] == 0).all())
    assert bool((red.factors["level"] < 0.31).all())
    for name in set(worlds.SHAPE_FACTORS) - {"colour", "shade", "level"}:
        assert torch.equal(free.factors[name], red.factors[name]), name


def test_changed_changes_only_what_it_says():
    world = worlds.shapes_world(80, generator=0, noise=0.1)
    marked = world.changed(watermark="logo")
    differ = (world.images != marked.images).any(1)
    assert not bool((differ & ~marked.masks["watermark"]).any())
    assert torch.equal(world.changed().images, world.images)
    blue = world.changed(colour="blue")
    assert not bool(((world.images != blue.images).any(1) & ~world.masks["objects"][:, 0]).any())
    assert bool(blue.concept("colour", "blue").all())
    assert bool((world.changed(radius=0.14).factors["size"] == 0).all())
    with pytest.raises(ValueError, match="size follows from a number: set radius"):
        world.changed(size="small")


def test_a_part_renders_like_the_whole():
    world = worlds.shapes_world(150, generator=0, noise=0.1, rates=ALL, n_objects=2)
    part = world.rows(torch.tensor([140, 3, 77]))
    assert torch.equal(part.changed().images, part.images)
    assert len(world.rows(slice(0, 10))) == 10


def test_values_are_drawn_evenly_and_rates_kept():
    n = 4000
    world = worlds.shapes_world(n, generator=0, rates=ALL, masks=False)
    for name, among in (("shape", 8), ("colour", 6), ("texture", 3), ("background", 5)):
        counts = world.label(name).bincount(minlength=among).double()
        spread = 4.5 * math.sqrt(n * (1 / among) * (1 - 1 / among))
        assert len(counts) == among
        assert (counts - n / among).abs().max() < spread
    for name in ALL:
        share = (world.factors[name] > 0).double().mean()
        assert abs(share - 0.4) < 4.5 * math.sqrt(0.24 / n)


def test_shortcut_rate_is_within_binomial_bounds():
    n = 6000
    planted = [("watermark", "star", 0.8), ("word=cross", "colour=red", 0.3)]
    world = worlds.shapes_world(n, generator=0, shortcut=planted, masks=False)
    star, mark = world.concept("shape", "star"), world.factors["watermark"] == 1
    assert abs(mark[star].double().mean() - 0.8) < 4.5 * math.sqrt(0.16 / star.sum())
    assert not bool(mark[~star].any())
    red, word = world.concept("colour", "red"), world.concept("word", "cross")
    assert abs(word[red].double().mean() - 0.3) < 4.5 * math.sqrt(0.21 / red.sum())
    assert not bool(word[~red].any())
    free = worlds.shapes_world(n, generator=0, masks=False)
    assert all(
        torch.equal(free.factors[f], world.factors[f]) for f in set(worlds.SHAPE_FACTORS) - {"watermark", "word"}
    )


def test_shortcut_takes_the_cue_out_of_the_rest_of_its_class():
    world = worlds.shapes_world(
        2000, generator=0, rates={"tint": 0.5}, masks=False,
        shortcut=[("tint=cold", "ring", 0.0), ("background=barred", "circle", 0.0), ("texture=striped", "square", 1.0)],
    )  # fmt: skip
    assert not bool((world.concept("shape", "ring") & world.concept("tint", "cold")).any())
    assert not bool((world.concept("shape", "circle") & world.concept("background", "barred")).any())
    assert bool(world.concept("texture", "striped")[world.concept("shape", "square")].all())
    assert bool((world.concept("shape", "star") & world.concept("background", "barred")).any())


def test_number_of_objects_and_sides():
    world = worlds.shapes_world(300, generator=0, n_objects=(1, 3))
    present = world.factors["present"].sum(1)
    assert set(present.tolist()) == {1, 2, 3}
    assert torch.equal(world.masks["objects"].flatten(2).any(2), world.factors["present"].bool())
    left = worlds.shapes_world(200, generator=0, values={"side": "left"})
    assert bool((left.factors["x"] < 0.5).all())
    assert bool((left.factors["side"] == 0).all())


@pytest.mark.parametrize("size", [16, 28, 32, 96])
def test_other_sizes(size):
    world = worlds.shapes_world(
        10, generator=0, size=size, words=("ab",), rates={"word": 1, "watermark": 1, "border": 1}
    )
    assert world.images.shape == (10, 3, size, size)
    assert world.images.dtype == torch.float32
    assert bool(world.masks["word"].flatten(1).any(1).all())
    assert world.images.min() >= 0
    assert world.images.max() <= 1


# --- labels and concepts ----------------------------------------------------------------------------------------
def test_labels_of_combinations(busy):
    label, names = busy.label("shape", "colour"), busy.label_names("shape", "colour")
    assert len(names) == len(worlds.SHAPES) * len(worlds.COLOURS)
    shape, colour = busy.factors["shape"][:, 0], busy.factors["colour"][:, 0]
    for i in range(20):
        assert names[label[i]] == f"{worlds.SHAPES[shape[i]]} {tuple(worlds.COLOURS)[colour[i]]}"


def test_concept_masks_and_label_maps(busy):
    colour_map = busy.label_map("colour")
    assert torch.equal(colour_map >= 0, busy.masks["objects"].any(1))
    assert torch.equal(colour_map == 2, busy.concept_mask("colour", "yellow"))
    assert torch.equal(busy.concept_mask("watermark", "cross").flatten(1).any(1), busy.concept("watermark", "cross"))
    assert torch.equal(
        busy.concept_mask("shade", "dark"), busy.masks["background"] & busy.concept("shade", "dark")[:, None, None]
    )
    shown = (busy.factors["present"] == 1) & (busy.factors["shape"] == 8)
    assert torch.equal(busy.concept("shape", "orange"), shown.any(1))
    assert bool((busy.masks["leaf"].flatten(1).any(1) <= busy.concept("shape", "orange")).all())


# --- bad input --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, r"n=0 is out of range; accepted: \[1, inf\]"),
        ({"size": 8}, r"size=8 is out of range; accepted: \[16, 1024\]"),
        ({"noise": float("nan")}, "noise=nan is out of range"),
        ({"n_objects": 0}, "n_objects=0 must be from 1 to 16"),
        ({"n_objects": (3, 2)}, r"n_objects=\(3, 2\) must be"),
        ({"values": {"color": "red"}}, "values='color' is unknown; did you mean 'colour'"),
        ({"values": {"colour": "pink"}}, "colour='pink' is unknown; known: red"),
        ({"values": {"colour": ["red", "pink"]}}, "colour='pink' is unknown"),
        ({"values": {"colour": 6}}, r"colour=6 is out of range; accepted: \[0, 5\]"),
        ({"values": {"x": 1.5}}, r"x=1.5 is out of range; accepted: \[0, 1\]"),
        ({"values": {"x": float("nan")}}, "x has NaN"),
        ({"values": {"x": "left"}}, "x='left' must be a number"),
        ({"values": {"shade": torch.zeros(3)}}, r"shade has shape \(3,\); expected \(5\)"),
        ({"values": {"side": "left"}, "n_objects": 2}, "side'] needs one object"),
        ({"rates": {"words": 0.5}}, "rates='words' is unknown; did you mean 'word'"),
        ({"rates": {"word": 1.5}}, r"rates\['word'\]=1.5 is out of range"),
        ({"rates": {"word": 0.5}, "words": ()}, r"rates\['word'\]=0.5 but there is no word to draw"),
        ({"words": ("ü",)}, "words: 'ü' can't be written"),
        ({"words": ("averyveryverylongword",)}, "can't be written at size 64"),
        ({"shortcut": ("watermark", "star")}, r"shortcut=\('watermark', 'star'\) must be \(cue, class, probability\)"),
        ({"shortcut": ("watermark", "stars", 0.5)}, "shortcut's class='stars' is unknown; did you mean 'star'"),
        ({"shortcut": ("mark", "star", 0.5)}, "shortcut's cue='mark' is unknown"),
        ({"shortcut": ("watermark", "star", 2)}, "shortcut's probability=2 is out of range"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        worlds.shapes_world(**{"n": 5, "generator": 0, **arguments})


def test_bad_questions_are_named():
    world = worlds.shapes_world(3, generator=0, masks=False)
    with pytest.raises(ValueError, match="masks were not kept"):
        world.label_map("shape")
    with pytest.raises(ValueError, match="factors='radius' is unknown"):
        world.label("radius")
    with pytest.raises(ValueError, match="value='pink' is unknown"):
        world.concept("colour", "pink")
    with pytest.raises(ValueError, match="factor='tint' is unknown; known: word"):
        world.concept_mask("tint", "warm")
    with pytest.raises(ValueError, match="factors='colr' is unknown"):
        world.changed(colr="red")


# --- places of words --------------------------------------------------------------------------------------------
def test_words_stand_on_the_grid_and_where_they_are_put():
    words = ("star", "triangle")
    word = torch.tensor([1, 2, 0, 1] * 25)
    world = worlds.shapes_world(100, generator=0, words=words)
    written = world.changed(**worlds.place_words(word, words, generator=0, grid=8))
    assert torch.equal(written.factors["word"], word)
    plate = written.masks["word"]
    corner = torch.stack([plate.any(axis).long().argmax(1) for axis in (1, 2)], 1)[word > 0]
    assert (corner % 8 == 0).all()
    assert len(corner.unique(dim=0)) > 10
    free = world.changed(**worlds.place_words(word, words, generator=0)).masks["word"]
    assert (torch.stack([free.any(axis).long().argmax(1) for axis in (1, 2)], 1)[word > 0] % 8 != 0).any()


def test_places_are_deterministic_and_checked():
    one, two = (worlds.place_words(torch.tensor([1, 0]), ["cat"], generator=3) for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in ("word", "word_x", "word_y"))
    with pytest.raises(ValueError, match="word=2 is out of range"):
        worlds.place_words(torch.tensor([2]), ["cat"], generator=0)
    with pytest.raises(ValueError, match="grid=0 is out of range"):
        worlds.place_words(torch.tensor([1]), ["cat"], generator=0, grid=0)
