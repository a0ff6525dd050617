"""A grammar of facts: some stand in the text, some must be remembered, and a text may contradict the memory."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from shared._checks import check_choice, check_range

RECALL_SOURCES = ("context", "memory")
_PEOPLE = (
    "Ada Alan Albert Alice Amy Anna Arthur Barbara Ben Bertha Carl Carol Charles Clara Daisy Daniel David Diana Donald "
    "Dora Edgar Edith Edward Ella Emil Emma Erik Esther Eva Felix Flora Frank Fred Frida George Grace Greta Hannah "
    "Harold Helen Henry Hugo Ida Irene Isaac Ivan Jack Jane John Julia Karl Kate Laura Leo Lily Louis Lucy Mark Martha "
    "Mary Max Nora Oscar Otto Paul Peter Rosa Ruth Sam Sarah Simon Susan Thomas Tilda Ulla Victor Walter Wanda Yves Zoe"
).split()
_VALUES = {
    "city": "Athens Berlin Boston Cairo Dublin Geneva Lisbon London Madrid Milan Moscow Oslo Paris Rome Tokyo Vienna",
    "job": "actor baker banker butcher clerk cook dancer doctor farmer lawyer miner nurse painter pilot tailor teacher",
    "food": "bread cheese eggs fish fruit honey lentils meat noodles nuts olives pasta rice salad soup tofu",
    "colour": "amber beige black blue brown crimson gold green grey ivory orange pink purple red white yellow",
}
RELATIONS = tuple(_VALUES)
_WORDS = ("<s>", ".", "which")


@dataclass(frozen=True)
class RecallWorld:
    """People and what is true of them.

    Attributes
    ----------
    facts : dict of (person, relation) -> value
    """

    facts: Mapping[tuple[str, str], str] = field(repr=False)

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody of whom facts are known."""
        return tuple(dict.fromkeys(person for person, _ in self.facts))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All words, which blanks divide; the first is the start token, which the texts leave out."""
        values = itertools.chain.from_iterable(values_of(relation) for relation in RELATIONS)
        return (*_WORDS, *RELATIONS, *values, *self.people)


@dataclass(frozen=True)
class RecallItem:
    """A text that ends where the answer to its question comes next.

    Attributes
    ----------
    text : str
    answer : str
        By the text if it says so, else by the world.
    memory : str
        By the world.
    source : str
        "context" or "memory".
    person, relation : str
        Whom and what the question names.
    spans : dict of str -> (int, int)
        The characters of "person" and "relation" in the question, of the whole "question", and of "answer" in the
        statement that gives it (only for the source "context").
    """

    text: str
    answer: str
    memory: str
    source: str
    person: str
    relation: str
    spans: Mapping[str, tuple[int, int]] = field(repr=False)


def values_of(relation: str) -> tuple[str, ...]:
    """What may stand in a relation.

    Parameters
    ----------
    relation : str
        "city", "job", "food" or "colour".

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        For another one.
    """
    return tuple(_VALUES[check_choice("relation", relation, RELATIONS)].split())


def recall_world(*, generator: np.random.Generator, people: int = 64) -> RecallWorld:
    """Draw what is true: one value for each person and relation.

    Parameters
    ----------
    generator : numpy.random.Generator
    people : int
        From 3 to 80.

    Returns
    -------
    RecallWorld

    Raises
    ------
    ValueError
        For a number out of range.
    """
    check_range("people", people, 3, len(_PEOPLE))
    who = _PEOPLE[:people]
    return RecallWorld({(p, r): str(generator.choice(values_of(r))) for p in who for r in RELATIONS})


def recall_texts(
    world: RecallWorld, n: int, *, generator: np.random.Generator, statements: int = 4, questions: int = 4
) -> list[str]:
    """Texts to train on: statements, mostly untrue, then questions with their answers.

    A question of what a statement says is answered by it, any other by the world. Half of the questions are of either
    sort; a fifth of the texts has no statements.

    Parameters
    ----------
    world : RecallWorld
    n : int
    generator : numpy.random.Generator
    statements, questions : int
        Of each text, at most and exactly; no question comes twice.

    Returns
    -------
    list of str
        "Ada city Rome . Leo job cook . which city Ada Rome . which food Leo rice ."

    Raises
    ------
    ValueError
        For numbers out of range.
    """
    _check_numbers(n, statements)
    check_range("questions", questions, 1, 8)
    return [_text(world, statements, questions, generator) for _ in range(n)]


def recall_items(
    world: RecallWorld,
    n: int,
    *,
    source: str,
    generator: np.random.Generator,
    statements: int = 4,
    relations: Sequence[str] = RELATIONS,
) -> list[RecallItem]:
    """Questions whose answer stands in the text, or has to be remembered.

    Texts of the source "context" say of the person in question something untrue. Those
    of the source "memory" say something about the person too, but nothing of the relation, so that only what is asked
    tells them apart. The other statements are untrue and about the person or two others.

    Parameters
    ----------
    world : RecallWorld
    n : int
    source : "context" or "memory"
    generator : numpy.random.Generator
    statements : int
        Of each text; none for a bare question, which must be of the source "memory".
    relations : sequence of str
        Those asked for.

    Returns
    -------
    list of RecallItem

    Raises
    ------
    ValueError
        For an unknown source or relation, numbers out of range, and for a context without statements.
    """
    check_choice("source", source, RECALL_SOURCES)
    relations = [check_choice("relations", relation, RELATIONS) for relation in relations]
    _check_numbers(n, statements)
    if source == "context" and statements < 1:
        raise ValueError("statements=0: a context needs at least one")
    return [_item(world, source, statements, relations, generator) for _ in range(n)]


def _check_numbers(n: int, statements: int) -> None:
    check_range("n", n, 1)
    check_range("statements", statements, 0, 8)


def _text(world: RecallWorld, statements: int, questions: int, rng: np.random.Generator) -> str:
    pairs = _shuffled([(p, r) for p in _three(world, rng) for r in RELATIONS], rng)
    count = 0 if rng.random() < 0.2 else int(rng.integers(1, statements + 1)) if statements else 0
    told = {(p, r): str(rng.choice(values_of(r))) for p, r in pairs[:count]}
    words = [_statement(*fact) for fact in told.items()]
    asked = [list(told), pairs[count:]]
    for _ in range(questions):
        among = asked[int(rng.random() < 0.5)] or asked[0] or asked[1]
        pair = among.pop()
        words += [_question(*pair), told.get(pair, world.facts[pair]), "."]
    return " ".join(words)


def _item(
    world: RecallWorld, source: str, statements: int, relations: Sequence[str], rng: np.random.Generator
) -> RecallItem:
    people = _three(world, rng)
    asked = (people[0], str(rng.choice(relations)))
    others = _shuffled([(p, r) for p in people for r in RELATIONS if (p, r) != asked], rng)
    first = asked if source == "context" else next(pair for pair in others if pair[0] == asked[0])
    pairs = _shuffled([first, *(pair for pair in others if pair != first)][:statements], rng)
    told = {(p, r): str(rng.choice([v for v in values_of(r) if v != world.facts[p, r]])) for p, r in pairs}
    text, spans = "", {}
    for pair, value in told.items():
        text += _statement(pair, value) + " "
        if pair == asked:
            spans["answer"] = (len(text) - 3 - len(value), len(text) - 3)
    begin = len(text)
    text += _question(*asked)
    spans |= {
        "question": (begin, len(text)),
        "relation": (begin + 6, begin + 6 + len(asked[1])),
        "person": (len(text) - len(asked[0]), len(text)),
    }
    return RecallItem(text, told.get(asked, world.facts[asked]), world.facts[asked], source, *asked, spans)


def _three(world: RecallWorld, rng: np.random.Generator) -> list[str]:
    return rng.choice(world.people, 3, replace=False).tolist()


def _shuffled(pairs: list[tuple[str, str]], rng: np.random.Generator) -> list[tuple[str, str]]:
    return [pairs[i] for i in rng.permutation(len(pairs))]


def _statement(pair: tuple[str, str], value: str) -> str:
    return f"{pair[0]} {pair[1]} {value} ."


def _question(person: str, relation: str) -> str:
    return f"which {relation} {person}"
