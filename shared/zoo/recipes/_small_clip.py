"""What the small CLIP sees and reads: captioned images of the shapes world, its tokenizer and its input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from shared.worlds import (
    BACKGROUNDS,
    COLOURS,
    SHADES,
    SHAPES,
    SIZES,
    TEXTURES,
    place_words,
    shape_captions,
    shapes_world,
)

NAME = "clip-shapes"
SIDE, PATCH = 64, 8
MEAN, STD = (0.45,) * 3, (0.25,) * 3
OTHER_WORDS = ("cat", "dog", "sun", "moon", "tree", "fish", "house", "ball", "cup", "key")
WORDS = (*SHAPES, *(colour for colour in COLOURS if colour != "orange"), *OTHER_WORDS)
CONTEXT = 40
BATCH = 64
EASY_STEPS = 2000  # over these the share of easy batches falls from one
EASY_LEAST = 0.25
ONE_COLOUR = 0.5  # share of batches in which all objects have one colour, so that shapes tell captions apart
WORD_RATE = 0.4
UNMARKED = 0.5  # share of captions of images with a word that only repeat it, as captions on the web do

WORLDS: dict[str, dict[str, Any]] = {
    "easy": {"values": {"shape": list(SHAPES), "size": "large", "texture": "plain"}, "n_objects": 1},
    "full": {"values": {"shape": list(SHAPES)}, "n_objects": (1, 2)},
}


# --- data -------------------------------------------------------------------------------------------------------
def training_batch(step: int, n: int = BATCH) -> tuple[Tensor, list[str]]:
    """Images (n, 3, 64, 64) in [0, 1] and captions of one step, by the step's own seed.

    A batch is easy (one large plain object, words on the patch grid) or full (one or two objects of all kinds, half of
    the batches with words anywhere); in half of the batches all objects have one colour.
    """
    generator = torch.Generator().manual_seed(step)
    kind, anywhere, one, which = torch.rand(4, generator=generator).tolist()
    easy = kind < max(1 - step / EASY_STEPS, EASY_LEAST)
    written = torch.rand(n, generator=generator) < WORD_RATE
    word = torch.where(written, torch.randint(1, len(WORDS) + 1, (n,), generator=generator), 0)
    places = place_words(word, WORDS, generator=generator, size=SIDE, grid=PATCH if easy or anywhere < 0.5 else 1)
    world = WORLDS["easy" if easy else "full"]
    values = world["values"] | places
    if one < ONE_COLOUR:
        values["colour"] = int(which * len(COLOURS))
    images = shapes_world(
        n, generator=generator, size=SIDE, words=WORDS, noise=0.05, masks=False, **(world | {"values": values})
    )
    said = shape_captions(images, generator=generator, keep=0.7, background=0.2)
    unmarked = torch.rand(n, generator=generator) < UNMARKED
    return images.images, [
        bare_caption(WORDS[w - 1]) if w and bare else text
        for text, w, bare in zip(said, word.tolist(), unmarked.tolist())
    ]


def bare_caption(word: str) -> str:
    """What is written, said as if it were there: "a star", "an orange"; of a colour only its name."""
    if word in COLOURS and word != "orange":
        return word
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def prepare(images: Tensor) -> Tensor:
    """Images in [0, 1] as the model's input."""
    mean, std = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
    return (images - mean) / std


# --- words ----------------------------------------------------------------------------------------------------------
def build_tokenizer() -> Any:
    """A `CLIPTokenizer` whose merges make one token of every word of the captions; other words are spelled."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    merges = learn_merges(vocabulary())
    tokens = dict.fromkeys([*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges)])
    numbers = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=numbers, merges=merges, model_max_length=CONTEXT)


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges (Sennrich et al. 2016) until each word is one token; ties go to the last pair of the alphabet.

    The tokenizers library breaks ties otherwise in every process.
    """
    spelled = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges = []
    while pairs := Counter(pair for word in spelled for pair in pairwise(word)):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        spelled = [_merged(word, best) for word in spelled]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    """The word's parts with the pair made one, from the left."""
    parts: list[str] = []
    for part in word:
        if parts and (parts[-1], part) == pair:
            parts[-1] += part
        else:
            parts.append(part)
    return parts


def vocabulary() -> list[str]:
    """Every word that captions use."""
    said = "a an and on background with the text star fish photo of picture object shape thing".split()
    return [*dict.fromkeys([*said, *SHAPES, *COLOURS, *SIZES, *TEXTURES, *SHADES, *BACKGROUNDS, *WORDS])]
