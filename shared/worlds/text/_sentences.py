"""Sentences whose grammar is set concept by concept."""

from __future__ import annotations

import numpy as np
from torch import Tensor

TEXT_CONCEPTS = ("past", "negated", "plural", "question", "first person", "adjective")
_NOUNS = "farmer teacher doctor student writer driver player pilot author lawyer nurse boy".split()
_VERBS = [  # base, third person, past
    tuple(forms.split("/"))
    for forms in "see/sees/saw find/finds/found like/likes/liked know/knows/knew want/wants/wanted need/needs/needed "
    "buy/buys/bought paint/paints/painted wash/washes/washed break/breaks/broke carry/carries/carried "
    "choose/chooses/chose".split()
]
_THINGS = "car house box door book table bottle chair boat clock lamp bag cup coat".split()
_ADJECTIVES = "red old small heavy dirty wooden new broken green large".split()
_PLACES = ("", " in the garden", " near the river", " at the market", " on the road", " behind the school")


def concept_sentences(Y: Tensor | np.ndarray, *, generator: np.random.Generator) -> list[str]:
    """One English sentence for each row of labels; all that they leave open is drawn.

    The sentence is in the past tense (else present), negated, its subject plural (else singular), a question (else a
    statement), in the first person (else third), and names its object with an adjective, or not: "Did we not see the
    red car?"

    Parameters
    ----------
    Y : Tensor or ndarray of 0 and 1, shape (n, 6)
        In the order of `TEXT_CONCEPTS`.
    generator : numpy.random.Generator

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        For other shapes and values.
    """
    Y = np.asarray(Y)
    if Y.ndim != 2 or Y.shape[1] != len(TEXT_CONCEPTS) or len(Y) == 0 or not np.isin(Y, (0, 1)).all():
        raise ValueError(f"Y has shape {Y.shape}; expected (n, {len(TEXT_CONCEPTS)}) with values 0 and 1, n > 0")
    pools = (_NOUNS, _VERBS, _THINGS, _ADJECTIVES, _PLACES)
    drawn = zip(*(generator.choice(len(pool), len(Y)) for pool in pools))
    picked = ([pool[i] for pool, i in zip(pools, row)] for row in drawn)
    return [_sentence(labels, *words) for labels, words in zip(Y.astype(bool), picked)]


def _sentence(labels: np.ndarray, noun: str, verb: tuple[str, ...], thing: str, adjective: str, place: str) -> str:
    past, negated, plural, question, first, described = labels
    subject = ("we" if plural else "I") if first else f"the {noun}s" if plural else f"the {noun}"
    base, third, before = verb
    plain = plural or first  # the verb takes no -s
    helper = "did" if past else "do" if plain else "does"
    if question:
        start = f"{helper} {subject}{' not' if negated else ''} {base}"
    elif negated:
        start = f"{subject} {helper} not {base}"
    else:
        start = f"{subject} {before if past else base if plain else third}"
    text = f"{start} the {adjective + ' ' if described else ''}{thing}{place}{'?' if question else '.'}"
    return text[0].upper() + text[1:]
