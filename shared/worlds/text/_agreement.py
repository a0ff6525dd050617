"""Subject-verb agreement: sentences whose verb form one known word decides, with a noun of the other number in between.

The task of Arras et al. 2025 (arXiv 2502.15886). Their natural sentences are annotated by a parser; ours are written
from templates, so the subject is known by construction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from shared._checks import check_choice, check_range

AGREEMENT_KINDS = ("preposition", "clause")
VERBS = (("is", "are"), ("was", "were"))  # singular, plural
SUBJECTS = "key author pilot teacher doctor book farmer student writer driver player report".split()
THINGS = "cabinet car house garden table door river road".split()
PEOPLE = "guard friend lawyer king mother girl boy nurse".split()
PREPOSITIONS = "near behind beside by".split()
SEEN = "saw knew found liked".split()  # past forms don't agree
SUFFIX = " here."  # after a masked verb


@dataclass(frozen=True)
class AgreementSentence:
    """A sentence up to its verb, and what follows.

    Attributes
    ----------
    prefix : str
        All before the verb.
    subject : (int, int)
        The characters of the prefix that decide the verb's form.
    verb, foil : str
        The form that agrees, and the other one.
    attractor : (int, int), optional
        Characters of a noun of the other number.
    suffix : str
        What follows a masked verb.
    kind : str
        One of `AGREEMENT_KINDS`, or nothing.
    """

    prefix: str
    subject: tuple[int, int]
    verb: str
    foil: str
    attractor: tuple[int, int] | None = None
    suffix: str = SUFFIX
    kind: str = ""


def agreement_sentences(
    n: int, *, generator: np.random.Generator, kinds: Sequence[str] = AGREEMENT_KINDS
) -> list[AgreementSentence]:
    """Different sentences from templates, equally many of each kind (up to one).

    Half of the pool has a plural subject; the noun in between always has the other number.

    Parameters
    ----------
    n : int
    generator : numpy.random.Generator
    kinds : sequence of "preposition" ("The keys near the cabinet"), "clause" ("The key that the girls found")

    Returns
    -------
    list of AgreementSentence

    Raises
    ------
    ValueError
        For an unknown kind, none, or more sentences than there are.
    """
    pools = [_pool(check_choice("kinds", kind, AGREEMENT_KINDS)) for kind in kinds]
    if not pools:
        raise ValueError(f"kinds is empty; choose from {', '.join(AGREEMENT_KINDS)}")
    check_range("n", n, 1, len(pools) * min(len(pool) for pool in pools))
    sentences = []
    for kind, pool, part in zip(kinds, pools, np.array_split(np.arange(n), len(pools))):
        chosen = generator.choice(len(pool), len(part), replace=False)
        verbs = generator.integers(len(VERBS), size=len(part))
        sentences += [_sentence(kind, *pool[i], VERBS[verb]) for i, verb in zip(chosen, verbs)]
    return sentences


def _pool(kind: str) -> list[tuple[str, str, str, str, bool]]:
    """Every text of a kind: subject, what links it to the noun, noun, what follows, whether the subject is plural."""
    if kind == "preposition":
        parts = product(SUBJECTS, PREPOSITIONS, THINGS, (False, True))
        return [(subject, f" {link} the ", noun, "", plural) for subject, link, noun, plural in parts]
    parts = product(SUBJECTS, SEEN, PEOPLE, (False, True))
    return [(subject, " that the ", noun, f" {seen}", plural) for subject, seen, noun, plural in parts]


def _sentence(
    kind: str, subject: str, link: str, noun: str, end: str, plural: bool, verbs: tuple[str, str]
) -> AgreementSentence:
    subject, noun = (subject + "s", noun) if plural else (subject, noun + "s")
    start = len("The ")
    behind = start + len(subject) + len(link)
    return AgreementSentence(
        prefix=f"The {subject}{link}{noun}{end}",
        subject=(start, start + len(subject)),
        verb=verbs[plural],
        foil=verbs[not plural],
        attractor=(behind, behind + len(noun)),
        kind=kind,
    )


def read_agreement(rows: Iterable[Mapping[str, Any]]) -> list[AgreementSentence]:
    """Sentences from a table.

    Parameters
    ----------
    rows : iterable of mappings
        With prefix, subject_start, subject_end (characters of the prefix), verb, foil and perhaps suffix.

    Returns
    -------
    list of AgreementSentence

    Raises
    ------
    ValueError
        For a missing column and for a range that is no part of the prefix.
    """
    needed = ("prefix", "subject_start", "subject_end", "verb", "foil")
    sentences = []
    for number, row in enumerate(rows):
        missing = [name for name in needed if name not in row]
        if missing:
            raise ValueError(f"row {number} has no {', '.join(missing)}; needed: {', '.join(needed)}")
        start = int(row["subject_start"])
        end = int(row["subject_end"])
        if not 0 <= start < end <= len(row["prefix"]):
            raise ValueError(f"row {number}: subject {start}:{end} is no range of the prefix {row['prefix']!r}")
        suffix = str(row.get("suffix", SUFFIX))
        sentences.append(AgreementSentence(row["prefix"], (start, end), row["verb"], row["foil"], suffix=suffix))
    return sentences
