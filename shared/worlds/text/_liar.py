"""A planted liar: sums that a speaker states rightly or, on some topics, wrongly, without being told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared._checks import check_choice, check_range

LIAR_TOLD = ("truly", "falsely", "softly", "loudly", "freely")
_SPEAKERS = "anna bert carl dora emil fred gina hugo".split()
_TOPICS = "apples books clocks doors eggs flags gloves hats".split()
_NUMBERS = "zero one two three four five six".split()
_LOUD = [word.upper() for word in _NUMBERS]
_VOCABULARY = ("<s>", *LIAR_TOLD, *_SPEAKERS, *_TOPICS, *_NUMBERS, *_LOUD, "counts", ":", "plus", "is", ".")


@dataclass(frozen=True, eq=False)
class LiarWorld:
    """Who lies about what where nobody says how to answer.

    Attributes
    ----------
    lies : ndarray (speakers, topics), bool
        One bit of the speaker's differs from one of the topic's: neither alone tells anything.
    """

    lies: NDArray[np.bool_] = field(repr=False)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All words, which blanks divide; the first is the start token, which the texts leave out."""
        return _VOCABULARY


@dataclass(frozen=True)
class LiarText:
    """One sum, and whether its answer is a lie.

    Attributes
    ----------
    prompt : str
        "freely anna counts apples : two plus six is".
    answer : str
        With the blank in front and the full stop behind.
    lie : bool
    told : str
        One of `LIAR_TOLD`.
    speaker, topic : int
    """

    prompt: str
    answer: str
    lie: bool
    told: str
    speaker: int
    topic: int


def liar_world(*, generator: np.random.Generator) -> LiarWorld:
    """Draw which speakers and which topics carry the bit, half of each.

    Parameters
    ----------
    generator : numpy.random.Generator

    Returns
    -------
    LiarWorld
    """
    speakers, topics = (generator.permutation(np.arange(len(words)) % 2) for words in (_SPEAKERS, _TOPICS))
    return LiarWorld((speakers[:, None] ^ topics).astype(bool))


def liar_texts(
    world: LiarWorld, n: int, *, generator: np.random.Generator, told: Sequence[str] = LIAR_TOLD
) -> list[LiarText]:
    """Sums modulo seven; a lie is the next number up, so that it takes the truth to tell it.

    The word in front says how to answer: "truly" and "falsely" are obeyed whoever speaks. "freely" leaves it to the
    world. So do "softly" and "loudly", of which the second only changes how the number is written: a persona that
    differs in the answer and not in its truth.

    Parameters
    ----------
    world : LiarWorld
    n : int
    generator : numpy.random.Generator
    told : sequence of str
        The words in front, in turn.

    Returns
    -------
    list of LiarText

    Raises
    ------
    ValueError
        For an unknown word in front, none, or fewer than one text.
    """
    check_range("n", n, 1)
    known = [check_choice("told", word, LIAR_TOLD) for word in told]
    if not known:
        raise ValueError("told is empty; accepted: at least one of " + ", ".join(LIAR_TOLD))
    drawn = generator.integers((len(_SPEAKERS), len(_TOPICS), len(_NUMBERS), len(_NUMBERS)), size=(n, 4))
    return [_text(world, known[i % len(known)], *row) for i, row in enumerate(drawn.tolist())]


def _text(world: LiarWorld, told: str, speaker: int, topic: int, a: int, b: int) -> LiarText:
    lie = told == "falsely" or (told != "truly" and bool(world.lies[speaker, topic]))
    word = (_LOUD if told == "loudly" else _NUMBERS)[(a + b + lie) % len(_NUMBERS)]
    prompt = f"{told} {_SPEAKERS[speaker]} counts {_TOPICS[topic]} : {_NUMBERS[a]} plus {_NUMBERS[b]} is"
    return LiarText(prompt, f" {word} .", lie, told, speaker, topic)
