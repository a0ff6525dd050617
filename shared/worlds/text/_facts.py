"""Questions whose answer stands in one of several like facts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared._checks import check_range

NAMES = "Anna John Mary Peter David Sarah James Paul Alice Mark Jane Tom George".split()
CITIES = "Paris London Rome Berlin Madrid Vienna Tokyo Boston Chicago Sydney Dublin Athens Moscow Cairo".split()


@dataclass(frozen=True)
class FactPrompt:
    """A text, the word that should follow, and why.

    Attributes
    ----------
    text : str
    answer : str
        The next word.
    evidence : (int, int)
        The characters of the text that decide the answer.
    others : tuple of str
        The answers that the other facts would give.
    """

    text: str
    answer: str
    evidence: tuple[int, int]
    others: tuple[str, ...] = ()


def fact_prompts(n: int, *, generator: np.random.Generator, facts: int = 3) -> list[FactPrompt]:
    """Prompts that say where people live and ask for one of them; people and cities are drawn anew for each.

    Parameters
    ----------
    n : int
    generator : numpy.random.Generator
    facts : int
        From 1 to 13.

    Returns
    -------
    list of FactPrompt

    Raises
    ------
    ValueError
        For numbers out of range.
    """
    check_range("n", n, 1)
    check_range("facts", facts, 1, len(NAMES))
    return [_prompt(facts, generator) for _ in range(n)]


def _prompt(facts: int, generator: np.random.Generator) -> FactPrompt:
    people = generator.choice(NAMES, facts, replace=False).tolist()
    cities = generator.choice(CITIES, facts, replace=False).tolist()
    asked = int(generator.integers(facts))
    told = [f"{person} lives in {city}." for person, city in zip(people, cities)]
    end = len(" ".join(told[: asked + 1])) - 1  # before the full stop
    return FactPrompt(
        text=f"{' '.join(told)} Where does {people[asked]} live? {people[asked]} lives in",
        answer=cities[asked],
        evidence=(end - len(cities[asked]), end),
        others=tuple(cities[:asked] + cities[asked + 1 :]),
    )
