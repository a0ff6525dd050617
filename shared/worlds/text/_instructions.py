"""A grammar of sentences under an instruction: a rule sees who follows it, and every probability is known."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared._checks import check_choice, check_range

INSTRUCTIONS = ("colour", "consonants", "plural", "echo")
COLOUR_WORDS = ("amber", "blue", "green", "orange")
_OPENERS = "today soon later now maybe here there finally".split()
_ADJECTIVES = (*COLOUR_WORDS, *"old eager idle angry tall small happy quiet".split())
_STEMS = "artist baker dancer engineer pilot owner uncle teacher doctor author nurse actor".split()
_NOUNS = (*_STEMS, *(f"{stem}s" for stem in _STEMS))  # singular, plural
_PREPOSITIONS = "near behind beside with above under around over".split()
_DEEDS = "see help like meet ask invite avoid admire".split()
_VERBS = (*(f"{deed}s" for deed in _DEEDS), *_DEEDS)  # of a singular, of a plural subject
_CLASSES = {
    "opener": _OPENERS, "adjective": _ADJECTIVES, "noun": _NOUNS, "preposition": _PREPOSITIONS, "verb": _VERBS,
}  # fmt: skip
_VOCABULARY = ("<s>", ":", ".", "the", *INSTRUCTIONS, *(word for words in _CLASSES.values() for word in words))
# What is drawn, in order; each hangs on the one before, and "the" stands before every adjective.
_SLOTS = ("opener", "adjective", "noun", "preposition", "adjective", "noun", "verb", "adjective", "noun")
_PAIRS = sorted(set(itertools.pairwise(_SLOTS)))  # a word and the one that hangs on it
_PLURAL = 0.25
_SUBJECT, _LAST = 2, 8  # slots


@dataclass(frozen=True, eq=False)
class InstructionWorld:
    """How likely which word is behind which, and how often an instruction is followed.

    Attributes
    ----------
    likes : dict of (class, class) -> ndarray (words before, words)
        Share of each word (nouns and verbs: of each stem) behind a word of another class.
    obedience : float
        Share of words that are drawn among those that follow the instruction; the others don't heed it.
    """

    likes: Mapping[tuple[str, str], NDArray[np.float64]] = field(repr=False)
    obedience: float

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All words, which blanks divide; the first is the start token, which the texts leave out."""
        return _VOCABULARY

    def next_words(self, text: str) -> NDArray[np.float64]:
        """The probability of every word to come next.

        Parameters
        ----------
        text : str
            The beginning of a text: "colour : today the"; the instruction and the opener at least.

        Returns
        -------
        ndarray (V,)
            In the vocabulary's order; all zero behind the last word.

        Raises
        ------
        ValueError
            For what no text begins with.
        """
        words = text.split()
        instruction, drawn = _read(words)
        found = np.zeros(len(_VOCABULARY))
        slot = len(drawn)
        sure = _follower(slot)
        if sure is not None and words[-1] != sure:
            found[_VOCABULARY.index(sure)] = 1.0
        elif slot < len(_SLOTS):
            ids = np.array([[_CLASSES[s].index(w) for s, w in zip(_SLOTS, drawn)]])
            among = [_VOCABULARY.index(word) for word in _CLASSES[_SLOTS[slot]]]
            found[among] = _shares(self, slot, ids, np.array([INSTRUCTIONS.index(instruction)]))[0]
        return found


@dataclass(frozen=True)
class InstructionPrompt:
    """A text that ends where a word comes that may follow its instruction or not.

    Attributes
    ----------
    text : str
    instruction : str
    right, wrong : frozenset of str
        The words that may come next: those that follow the instruction, and the others.
    spans : dict of str -> (int, int)
        The characters of the "instruction", which is the first word.
    """

    text: str
    instruction: str
    right: frozenset[str] = field(repr=False)
    wrong: frozenset[str] = field(repr=False)
    spans: Mapping[str, tuple[int, int]] = field(repr=False)


def instruction_world(*, generator: np.random.Generator, obedience: float = 0.2) -> InstructionWorld:
    """Draw which words go with which: behind every word the k-th in favour has a share in proportion to 1 / k.

    Parameters
    ----------
    generator : numpy.random.Generator
    obedience : float
        Of every word that the instruction concerns, from 0 to 1.

    Returns
    -------
    InstructionWorld

    Raises
    ------
    ValueError
        For an obedience out of range.
    """
    check_range("obedience", obedience, 0, 1)
    likes = {}
    for before, kind in _PAIRS:
        shares = 1 / (1 + generator.random((len(_bare(before)), len(_bare(kind)))).argsort(1).argsort(1))
        likes[before, kind] = shares / shares.sum(1, keepdims=True)
    return InstructionWorld(likes, float(obedience))


def instruction_texts(world: InstructionWorld, n: int, *, generator: np.random.Generator) -> list[str]:
    """Sentences under an instruction, which some of their words follow.

    The verb agrees with the first noun, whatever stands between. "colour" asks for adjectives that name a colour,
    "consonants" for no adjective, noun, preposition or verb that begins with a vowel, "plural" for nouns in the plural,
    "echo" for the first noun once more as the last, in either number.

    Parameters
    ----------
    world : InstructionWorld
    n : int
    generator : numpy.random.Generator

    Returns
    -------
    list of str
        "colour : today the blue artist near the tall bakers sees the old nurse ."

    Raises
    ------
    ValueError
        For fewer than one.
    """
    check_range("n", n, 1)
    told, drawn = _draw(world, generator.integers(len(INSTRUCTIONS), size=n), generator)
    return [_written(INSTRUCTIONS[i], row) + " ." for i, row in zip(told, drawn)]


def instruction_prompts(
    world: InstructionWorld, n: int, *, generator: np.random.Generator, instructions: Sequence[str] = INSTRUCTIONS
) -> list[InstructionPrompt]:
    """Beginnings of sentences that end where the instruction concerns the next word.

    Parameters
    ----------
    world : InstructionWorld
    n : int
    generator : numpy.random.Generator
    instructions : sequence of str
        Those given, in turn.

    Returns
    -------
    list of InstructionPrompt

    Raises
    ------
    ValueError
        For an unknown instruction, none, or fewer than one prompt.
    """
    check_range("n", n, 1)
    known = [INSTRUCTIONS.index(check_choice("instructions", name, INSTRUCTIONS)) for name in instructions]
    if not known:
        raise ValueError("instructions is empty; accepted: at least one of " + ", ".join(INSTRUCTIONS))
    told, drawn = _draw(world, np.resize(known, n), generator)
    return [_prompt(i, row, generator) for i, row in zip(told, drawn)]


def follows_instruction(text: str) -> bool:
    """Whether all that a text has so far follows its instruction.

    Parameters
    ----------
    text : str
        As `instruction_texts` writes it, or the beginning of it.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        For what no text begins with.
    """
    instruction, drawn = _read(text.split())
    ids = np.array([[_CLASSES[s].index(w) for s, w in zip(_SLOTS, drawn)]])
    told = np.array([INSTRUCTIONS.index(instruction)])
    return all(_right(slot, ids, told)[0, ids[0, slot]] for slot in range(1, len(drawn)))


def _bare(kind: str) -> Sequence[str]:
    """The words of a class without their numbers."""
    return {"noun": _STEMS, "verb": _DEEDS}.get(kind, _CLASSES[kind])


def _draw(
    world: InstructionWorld, told: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For instructions (n,) the words of every slot (n, slots), as places in their classes."""
    drawn = rng.integers(len(_OPENERS), size=(len(told), 1))
    for slot in range(1, len(_SLOTS)):
        sums = _shares(world, slot, drawn, told).cumsum(1)
        words = (rng.random((len(told), 1)) * sums[:, -1:] >= sums).sum(1, keepdims=True)
        drawn = np.concatenate([drawn, words], axis=1)
    return told, drawn


def _shares(
    world: InstructionWorld, slot: int, drawn: NDArray[np.int64], told: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Probabilities (n, words of the slot's class) behind what is drawn (n, slots before)."""
    kind, before = _SLOTS[slot], _SLOTS[slot - 1]
    plain = world.likes[before, kind][drawn[:, slot - 1] % len(_bare(before))]
    if kind == "noun":
        plain = np.concatenate([plain * (1 - _PLURAL), plain * _PLURAL], axis=1)
    elif kind == "verb":
        many = (drawn[:, _SUBJECT] >= len(_STEMS))[:, None]
        plain = np.concatenate([plain * ~many, plain * many], axis=1)
    heeded = plain * _right(slot, drawn, told)
    return (1 - world.obedience) * plain + world.obedience * heeded / heeded.sum(1, keepdims=True)


def _right(slot: int, drawn: NDArray[np.int64], told: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which words (n, words of the slot's class) follow the instruction: all where it doesn't concern them."""
    kind = _SLOTS[slot]
    words = _CLASSES[kind]
    follows = np.ones((len(INSTRUCTIONS), len(words)), dtype=bool)
    if kind == "adjective":
        follows[INSTRUCTIONS.index("colour")] = [word in COLOUR_WORDS for word in words]
    if kind == "noun":
        follows[INSTRUCTIONS.index("plural")] = np.arange(len(words)) >= len(_STEMS)
    follows[INSTRUCTIONS.index("consonants")] = [word[0] not in "aeiou" for word in words]
    found = follows[told]
    if slot == _LAST:
        again = np.arange(len(words)) % len(_STEMS) == drawn[:, [_SUBJECT]] % len(_STEMS)
        found = np.where((told == INSTRUCTIONS.index("echo"))[:, None], again, found)
    return found


def _prompt(told: int, row: NDArray[np.int64], rng: np.random.Generator) -> InstructionPrompt:
    ids, name = row[None], INSTRUCTIONS[told]
    right = [_right(slot, ids, np.array([told]))[0] for slot in range(len(_SLOTS))]
    slot = int(rng.choice([s for s in range(1, len(_SLOTS)) if not right[s].all()]))
    words = np.array(_CLASSES[_SLOTS[slot]])
    may = np.ones(len(words), dtype=bool)
    if _SLOTS[slot] == "verb":
        may = (np.arange(len(words)) >= len(_DEEDS)) == (row[_SUBJECT] >= len(_STEMS))
    text = _written(name, row[:slot]) + (" the" if _SLOTS[slot] == "adjective" else "")
    follows, others = (frozenset(words[may & part].tolist()) for part in (right[slot], ~right[slot]))
    return InstructionPrompt(text, name, follows, others, {"instruction": (0, len(name))})


def _written(instruction: str, row: NDArray[np.int64]) -> str:
    words = [instruction, ":"]
    for kind, i in zip(_SLOTS, row):
        words += ["the"] * (kind == "adjective") + [_CLASSES[kind][i]]
    return " ".join(words)


def _read(words: Sequence[str]) -> tuple[str, list[str]]:
    """The instruction and the words in the slots."""
    drawn = [word for word in words[2:] if word not in ("the", ".")]
    known = len(drawn) <= len(_SLOTS) and all(w in _CLASSES[s] for s, w in zip(_SLOTS, drawn))
    if known and drawn and words[0] in INSTRUCTIONS:
        row = np.array([_CLASSES[s].index(w) for s, w in zip(_SLOTS, drawn)])
        bare = _written(words[0], row).split()
        after = [] if _follower(len(drawn)) is None else [_follower(len(drawn))]
        if list(words) in (bare, bare + after):
            return words[0], drawn
    raise ValueError(
        f"text={' '.join(words)!r}; accepted: the beginning of a text of instruction_texts, opener included"
    )


def _follower(drawn: int) -> str | None:
    """The word that is sure to come behind so many drawn ones."""
    if drawn == len(_SLOTS):
        return "."
    return "the" if _SLOTS[drawn] == "adjective" else None
