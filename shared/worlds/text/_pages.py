"""Pages of mixed languages: words set into lines with boxes, printed with period type, and read again with errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared._checks import check_range


class NoTextError(ValueError):
    """A page, or a reading of one, that holds no word."""


@dataclass(frozen=True)
class TextPage:
    """A page's words, which of them are of the language looked for, and where they stand.

    Attributes
    ----------
    words : tuple[str, ...]
        In reading order.
    foreign : np.ndarray
        (N,) bool: whether each word is of the language looked for.
    lines : np.ndarray
        (N,) int: the printed line of each, from 0 without gaps.
    boxes : np.ndarray
        (N, 4) left, top, right and bottom of each, in pixels.
    size : tuple[int, int]
        Width and height of the page in pixels.
    """

    words: tuple[str, ...]
    foreign: np.ndarray
    lines: np.ndarray
    boxes: np.ndarray
    size: tuple[int, int]

    @property
    def spans(self) -> list[str]:
        """The runs of foreign words, each as one string."""
        return word_spans(self.words, self.foreign)

    @property
    def line_texts(self) -> list[str]:
        """The text of each line."""
        texts: list[list[str]] = [[] for _ in range(int(self.lines.max()) + 1)]
        for word, line in zip(self.words, self.lines):
            texts[line].append(word)
        return [" ".join(text) for text in texts]


def word_spans(words: Sequence[str], chosen: np.ndarray) -> list[str]:
    """Runs of chosen words.

    Parameters
    ----------
    words : sequence of str
        In reading order.
    chosen : (N,) array of bool
        Which words count.

    Returns
    -------
    Each run as one string.

    Examples
    --------
    >>> word_spans("he said nunc est bibendum and drank".split(), np.array([0, 0, 1, 1, 1, 0, 0]))
    ['nunc est bibendum']
    """
    if np.shape(chosen) != (len(words),):
        raise ValueError(f"chosen has shape {np.shape(chosen)} for {len(words)} words; one each is needed")
    spans: list[list[str]] = []
    before = False
    for word, here in zip(words, chosen):
        if here:
            spans = spans if before else [*spans, []]
            spans[-1].append(word)
        before = bool(here)
    return [" ".join(span) for span in spans]


def long_s(word: str) -> str:
    """A word as printers before 1800 set it: ſ for s, but for the last letter and before an apostrophe.

    Parameters
    ----------
    word : str
        One word, with its punctuation.

    Returns
    -------
    The word with long s.

    Examples
    --------
    >>> long_s("Congress's passions,")
    "Congreſs's paſſions,"
    """
    ends = [not (after.isalpha() and after.isascii()) for after in word[1:]] + [True]
    return "".join("ſ" if letter == "s" and not last else letter for letter, last in zip(word, ends))


def set_page(
    words: Sequence[str],
    foreign: Sequence[bool],
    *,
    blocks: Sequence[int] | None = None,
    font: str | Path,
    size: int = 34,
    width: int = 1100,
    margin: int = 60,
) -> TextPage:
    """Set words into lines, with the box of each.

    Parameters
    ----------
    words : sequence of str
        In reading order, as they are to be printed.
    foreign : (N,) bool
        Which are of the language looked for.
    blocks : (N,) int, optional
        The paragraph or verse of each word; a new one starts a new line. Without it all are one paragraph.
    font : path of a TrueType or OpenType file
        What the boxes are measured with.
    size, width, margin : int
        Letter size, page width and margin in pixels.

    Returns
    -------
    `TextPage`.

    Raises
    ------
    NoTextError
        Without words.
    ValueError
        If an argument has another length than the words, or the page leaves no room.
    """
    from PIL import ImageFont

    if not len(words) or not any(word.strip() for word in words):
        raise NoTextError("words holds no text; a page needs at least one word")
    blocks = [0] * len(words) if blocks is None else list(blocks)
    for name, value in {"foreign": foreign, "blocks": blocks}.items():
        if len(value) != len(words):
            raise ValueError(f"{name} has {len(value)} values for {len(words)} words; one each is needed")
    check_range("size", size, 6)
    if width < 2 * margin + 4 * size:
        raise ValueError(f"width={width} leaves no room for text between margins of {margin}")
    face = ImageFont.truetype(str(font), size)
    lines, boxes = _flow(words, blocks, face.getlength, size, width, margin)
    height = int(boxes[:, 3].max()) + margin
    return TextPage(tuple(words), np.asarray(foreign, dtype=bool), lines, boxes, (width, height))


def _flow(words, blocks, length, size, width, margin) -> tuple[np.ndarray, np.ndarray]:
    left, line, space = margin, 0, length(" ")
    lines, boxes = [], []
    for i, word in enumerate(words):
        wide = length(word)
        new = i > 0 and (blocks[i] != blocks[i - 1] or left + wide > width - margin)
        line, left = (line + 1, margin) if new else (line, left)
        top = margin + line * round(1.35 * size)
        lines.append(line)
        boxes.append((round(left), top, round(left + wide), top + round(1.2 * size)))
        left += wide + space
    return np.array(lines), np.array(boxes)


def print_page(
    page: TextPage,
    *,
    font: str | Path,
    size: int = 34,
    tilt: float = 0.0,
    blur: float = 0.0,
    specks: float = 0.0,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """A page's picture, as worn as one likes.

    Parameters
    ----------
    page : TextPage
        From `set_page`, with the same `font` and `size`.
    font, size : as in `set_page`
        What the words are drawn with.
    tilt : float
        Degrees that the page lies askew.
    blur : float
        Standard deviation of the blur, in pixels.
    specks : float
        Share of pixels, from 0 to 1, that turn black or white.
    generator : np.random.Generator, optional
        Draws the specks; needed for them only.

    Returns
    -------
    (height, width) uint8, 255 for paper.
    """
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    check_range("specks", specks, 0, 1)
    check_range("blur", blur, 0)
    image = Image.new("L", page.size, 255)
    pen, face = ImageDraw.Draw(image), ImageFont.truetype(str(font), size)
    for word, (left, top, _, _) in zip(page.words, page.boxes.tolist()):
        pen.text((left, top), word, font=face, fill=0)
    image = image.rotate(tilt, resample=Image.Resampling.BICUBIC, fillcolor=255) if tilt else image
    image = image.filter(ImageFilter.GaussianBlur(blur)) if blur else image
    pixels = np.asarray(image).copy()
    if specks:
        if generator is None:
            raise ValueError("generator is None; specks are drawn from one (np.random.default_rng(seed))")
        hit = generator.random(pixels.shape) < specks
        pixels[hit] = generator.integers(0, 2, int(hit.sum())) * 255
    return pixels


def align_words(printed: Sequence[str], read: Sequence[str]) -> np.ndarray:
    """Which printed word each read one comes from.

    The two texts are aligned letter by letter; a read word belongs to the printed word it shares most letters with.

    Parameters
    ----------
    printed, read : sequences of str
        The page's words and those that a reader found, in reading order.

    Returns
    -------
    (len(read),) int, -1 where no letter is shared.

    Raises
    ------
    NoTextError
        If nothing was printed.

    Examples
    --------
    >>> align_words("arma virumque cano".split(), "arma viru mque eano @".split())
    array([ 0,  1,  1,  2, -1])
    """
    if not len(printed):
        raise NoTextError("printed holds no word; there is nothing to align with")
    owner, other = ([i for i, word in enumerate(words) for _ in word] for words in (printed, read))
    counts = np.zeros((len(read), len(printed)), dtype=int)
    for a, b in _shared_letters("".join(printed), "".join(read)):
        counts[other[b], owner[a]] += 1
    return np.where(counts.any(1), counts.argmax(1), -1) if len(read) else np.zeros(0, dtype=int)


def _shared_letters(one: str, other: str) -> Iterator[tuple[int, int]]:
    for block in difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks():
        yield from ((block.a + i, block.b + i) for i in range(block.size))
