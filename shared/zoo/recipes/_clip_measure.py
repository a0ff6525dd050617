"""What the small CLIP can do: zero-shot classes, retrieval, reading, written words that mislead, the two oranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shared.vision import ZeroShotHead, encode_image, encode_text
from shared.worlds import COLOURS, SHAPES, TEXTURES, ShapesWorld, place_words, shape_captions, shapes_world
from shared.zoo.recipes._clip import PATCH, WORDS, prepare

SEED = 1_000_000  # training takes the seeds from 0
SIZE, PAIRS = 1000, 500
SHAPE_NAMES = tuple("star fish" if shape == "starfish" else shape for shape in SHAPES)
SHAPE_PROMPTS = ("a {}", "a large {}", "a small {}")
COLOUR_PROMPTS = tuple(f"a {{}} {shape}" for shape in SHAPE_NAMES if shape != "orange")
TEXTURE_PROMPTS = tuple(f"a {{}} {shape}" for shape in SHAPE_NAMES)
WORD_PROMPTS = tuple(f'a {shape} with the text "{{}}"' for shape in SHAPE_NAMES[:8])


@torch.no_grad()
def measure(model: nn.Module, tokenizer: Any) -> dict[str, float]:
    """The card's numbers, all on images that training hasn't seen."""
    return {
        **zero_shot(model, tokenizer),
        **retrieval(model, tokenizer),
        **oranges(model, tokenizer),
    }


def zero_shot(model: nn.Module, tokenizer: Any) -> dict[str, float]:
    """Accuracy by prompts on images of one object, without a word and with the name of another shape written on it."""
    world = one_object()
    shape, colour = world.label("shape"), world.label("colour")

    def head(names: Sequence[str], templates: Sequence[str]) -> ZeroShotHead:
        return ZeroShotHead(model, tokenizer, names, templates=templates)

    shapes, reading = head(SHAPE_NAMES, SHAPE_PROMPTS), head(WORDS, WORD_PROMPTS)
    clean = embed(model, world)
    textured = world.factors["texture"][:, 0] > 0
    found = {
        "shape, 10 classes: zero-shot accuracy on 1,000 images": share(shapes, clean, shape),
        "colour, 6 classes: zero-shot accuracy": share(head(list(COLOURS), COLOUR_PROMPTS), clean, colour),
        "striped or dotted: zero-shot accuracy": share(
            head(TEXTURES[1:], TEXTURE_PROMPTS), clean[textured], world.label("texture")[textured] - 1
        ),
    }
    for where, grid in (("on the patch grid", PATCH), ("anywhere", 1)):
        attacked, written = attack(world, grid=grid)
        features = embed(model, attacked)
        found |= {
            f"shape, with another shape's name written {where}: accuracy": share(shapes, features, shape),
            f"shape, with another shape's name written {where}: called what is written": share(
                shapes, features, written
            ),
            f"25 words written {where}: read by zero-shot": share(reading, features, written),
        }
    return found


def retrieval(model: nn.Module, tokenizer: Any) -> dict[str, float]:
    """Recall among 500 pairs of images of one or two objects and their full captions; equal captions all count."""
    world = shapes_world(
        PAIRS, generator=SEED + 1, n_objects=(1, 2), values={"shape": list(SHAPES)}, rates={"word": 0.3}, words=WORDS,
        noise=0.05, masks=False,
    )  # fmt: skip
    said = shape_captions(world, background=1.0)
    score = embed(model, world) @ encode_text(model, tokenizer, said).T
    number = torch.tensor([said.index(text) for text in said])
    right = number[:, None] == number[None]
    found = {}
    for name, scores in (("text for an image", score), ("image for a text", score.T)):
        for k in (1, 5):
            best = scores.topk(k).indices
            hit = right.gather(1, best).any(1)
            found[f"{name}: recall at {k} of {PAIRS}"] = round(hit.double().mean().item(), 4)
    return found


def oranges(model: nn.Module, tokenizer: Any) -> dict[str, float]:
    """How well prompts with the word "orange" find its two senses among images of neither: areas under the ROC.

    Alone it names the fruit; before a shape's name the colour.
    """
    world = one_object()
    features = embed(model, world)
    fruit, coloured = world.label("shape") == SHAPES.index("orange"), world.label("colour") == 1
    senses = {"the fruit, not orange": fruit & ~coloured, "another shape, orange": coloured & ~fruit}
    found = {}
    for prompt, templates in (("an orange", "an {}"), ("an orange <shape>", COLOUR_PROMPTS)):
        score = (features @ encode_text(model, tokenizer, ["orange"], templates=templates).T)[:, 0]
        neither = score[~fruit & ~coloured]
        for name, of in senses.items():
            above = (score[of][:, None] > neither).double().mean().item()
            found[f"“{prompt}” against images of neither sense: AUC of {name}"] = round(above, 4)
    return found


def one_object() -> ShapesWorld:
    """1,000 images of one object of any kind, no word."""
    return shapes_world(SIZE, generator=SEED, values={"shape": list(SHAPES)}, words=WORDS, noise=0.05, masks=False)


def attack(world: ShapesWorld, *, grid: int) -> tuple[ShapesWorld, Tensor]:
    """The images with the name of another shape written on each, and which (N,), numbered as the shapes and words."""
    generator = torch.Generator().manual_seed(SEED + grid)
    shape = world.label("shape")
    written = (shape + torch.randint(1, len(SHAPES), shape.shape, generator=generator)) % len(SHAPES)
    return world.changed(**place_words(written + 1, WORDS, generator=generator, grid=grid)), written


def embed(model: nn.Module, world: ShapesWorld) -> Tensor:
    """Unit image embeddings (N, d)."""
    return encode_image(model, prepare(world.images), batch_size=250)


def share(head: ZeroShotHead, features: Tensor, truth: Tensor) -> float:
    """Share of images whose best class is the true one."""
    return round((head.from_features(features).argmax(1) == truth).double().mean().item(), 4)
