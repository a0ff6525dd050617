"""A 3×5 bitmap font, and small logos: words and marks without a font file."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

# five rows of three pixels, one octal digit each: "A" is 010 101 111 101 101
_GLYPHS = {
    "A": "25755", "B": "65656", "C": "34443", "D": "65556", "E": "74647", "F": "74644", "G": "34553", "H": "55755",
    "I": "72227", "J": "11152", "K": "55655", "L": "44447", "M": "57755", "N": "65555", "O": "25552", "P": "65644",
    "Q": "25563", "R": "65655", "S": "34216", "T": "72222", "U": "55557", "V": "55552", "W": "55775", "X": "55255",
    "Y": "55222", "Z": "71247", "0": "75557", "1": "26227", "2": "61247", "3": "61216", "4": "55711", "5": "74616",
    "6": "34652", "7": "71122", "8": "75757", "9": "25316", " ": "00000", ".": "00002", ":": "02020", "-": "00700",
    "/": "11244", "!": "22202", "?": "61202", "'": "22000",
}  # fmt: skip
CHARACTERS = frozenset(_GLYPHS)

MARKS = {  # rows of pixels: "." dark, "#" bright
    "logo": (
        ".##########.",
        "############",
        "####....####",
        "###......###",
        "##...##...##",
        "##..####..##",
        "##..########",
        "##..####..##",
        "##...##...##",
        "###......###",
        "####....####",
        ".##########.",
    ),
    "cross": ("..#..", "..#..", "#####", "..#..", "..#.."),
}


@functools.lru_cache(maxsize=4096)
def text_bitmap(text: str) -> Tensor:
    """`text` in capitals as bool (5, 4·len − 1): three columns a letter, one between."""
    rows = torch.tensor([[int(digit) for digit in _GLYPHS[letter]] for letter in text.upper()]).T  # (5, letters)
    bits = rows.unsqueeze(-1) & torch.tensor([4, 2, 1, 0])  # the fourth column is the gap
    return bits.reshape(5, -1)[:, :-1].bool()


def mark_bitmap(name: str) -> Tensor:
    """A logo as bool (side, side)."""
    return torch.tensor([[pixel == "#" for pixel in row] for row in MARKS[name]])


def enlarge(bitmap: Tensor, scale: int) -> Tensor:
    """Repeat every pixel `scale` times in both directions."""
    return bitmap.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
