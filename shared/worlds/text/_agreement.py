"""Subject-verb agreement: sentences whose verb form one known word decides, with a noun of the other number in between.

The task of Arras et al. 2025 (arXiv 2502.15886). Their natural sentences are annotated by a parser; ours are written
from templates, so the subject is known by construction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared._checks import check_choice, check_range

AGREEMENT_KINDS = ("preposition", "clause")
VERBS = (("is", "are"), ("was", "were"))  # singular, plural
OPENERS = ("", "He says that ", "It seems that ", "As expected, ", "Once again, ")
SUBJECTS = (
    "key author pilot teacher doctor book farmer student writer driver player report letter picture song ship "
    "train engine machine painter singer soldier worker manager artist tower bridge wall window chair computer "
    "phone camera map card bottle cup lamp clock bell flower tree plant dog cat horse bird actor dancer editor "
    "lawyer officer captain sailor hunter poet prisoner scientist engineer planet star rock stone coin ticket "
    "door roof poem film plan law rule idea problem question answer method model tool gift boat truck plane "
    "bicycle"
).split()
THINGS = (
    "cabinet car house garden table river road station school castle farm field forest mountain lake island "
    "village market shop kitchen office hotel museum theater tree fence gate hill statue mirror desk bed window "
    "wall tower bridge tent barn cave tunnel port"
).split()
PEOPLE = (
    "guard friend king mother girl boy nurse queen father sister brother neighbor visitor judge owner client "
    "customer member leader agent guest student artist teacher doctor driver player farmer writer soldier manager "
    "officer worker lawyer captain hunter poet expert parent cousin tourist priest critic"
).split()
PREPOSITIONS = "near behind beside by".split()
SEEN = "saw knew found liked".split()  # past forms don't agree
SUFFIX = " here."  # after a masked verb
MOST = 10_000  # sentences of one draw: a small part of those there are


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

    Up to 84 sentences of a draw have each a subject of their own, so that they are independent units; beyond that every
    subject comes equally often (up to one). About half of the subjects are plural; the noun in between always has the
    other number. Openers of no to three words move the subject from its place.

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
        For an unknown kind, none, or more than 10,000 sentences.
    """
    kinds = [check_choice("kinds", kind, AGREEMENT_KINDS) for kind in kinds]
    if not kinds:
        raise ValueError(f"kinds is empty; choose from {', '.join(AGREEMENT_KINDS)}")
    check_range("n", n, 1, MOST)
    subjects = _cycle(SUBJECTS, generator)
    nouns = {"preposition": _cycle(THINGS, generator), "clause": _cycle(PEOPLE, generator)}
    sentences: dict[str, AgreementSentence] = {}
    while len(sentences) < n:
        kind, subject = kinds[len(sentences) % len(kinds)], next(subjects)
        sentence = next(
            s
            for s in (_sentence(kind, subject, noun, generator) for noun in nouns[kind] if noun != subject)
            if s.prefix not in sentences
        )
        sentences[sentence.prefix] = sentence
    return list(sentences.values())


def _cycle(words: Sequence[str], generator: np.random.Generator) -> Iterator[str]:
    """The words in random order, again and again: each comes once before any comes twice."""
    while True:
        yield from generator.permutation(words).tolist()


def _sentence(kind: str, subject: str, noun: str, generator: np.random.Generator) -> AgreementSentence:
    opener, verbs = OPENERS[generator.integers(len(OPENERS))], VERBS[generator.integers(len(VERBS))]
    link = PREPOSITIONS[generator.integers(len(PREPOSITIONS))] if kind == "preposition" else "that"
    end = "" if kind == "preposition" else f" {SEEN[generator.integers(len(SEEN))]}"
    plural = bool(generator.integers(2))
    subject, noun = (subject + "s", noun) if plural else (subject, noun + "s")
    before = f"{opener}{'the' if opener else 'The'} "
    between = f" {link} the "
    start, behind = len(before), len(before) + len(subject) + len(between)
    return AgreementSentence(
        prefix=f"{before}{subject}{between}{noun}{end}",
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


def linzen_rows(dependencies: Iterable[Mapping[str, Any]], pairs: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Natural sentences of Linzen, Dupoux and Goldberg (2016) as rows for `read_agreement`.

    The evaluation set of Goldberg (2019) has a verb and its other form for each sentence, all nouns between subject and
    verb of the other number, but doesn't say which word the subject is; the parsed table that it was made from does.

    Parameters
    ----------
    dependencies : iterable of mappings
        Rows of `agr_50_mostcommon_10K.tsv`, with orig_sentence, subj_index and verb_index (words, counted from 1).
    pairs : iterable of (nouns between, sentence, masked sentence, verb, other form)
        Rows of `lgd_dataset.tsv`.

    Returns
    -------
    list of dict
        In the order of `pairs`, without sentences that the table lacks or whose subject follows the verb: prefix,
        subject_start, subject_end, verb, foil and suffix.

    Raises
    ------
    ValueError
        For a missing column.
    """
    parsed = {}
    for row in dependencies:
        if missing := [name for name in ("orig_sentence", "subj_index", "verb_index") if name not in row]:
            raise ValueError(f"dependencies has no column {', '.join(missing)}")
        parsed[row["orig_sentence"]] = int(row["subj_index"]) - 1, int(row["verb_index"]) - 1
    rows = []
    for _, sentence, _, verb, foil in pairs:
        if sentence not in parsed:
            continue
        (subject, at), words = parsed[sentence], sentence.split()
        if subject >= at:  # behind the verb: nothing to predict it from
            continue
        start = sum(len(word) + 1 for word in words[:subject])
        rows.append(
            {
                "prefix": " ".join(words[:at]),
                "subject_start": start,
                "subject_end": start + len(words[subject]),
                "verb": verb,
                "foil": foil,
                "suffix": " " + " ".join(words[at + 1 :]),
            }
        )
    return rows
