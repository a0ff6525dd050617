"""Judges of descriptions: who rates whether a text shows a concept, and who writes texts that show it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_array, check_range
from shared.stats import unit_norm

RATINGS = (0, 1, 2)  # absent, vague, clear
GENERATE = (
    "Write sequences of text that show a given concept. Vary style, length and wording; the concept needn't be named. "
    "Answer with a Python list of strings and nothing else."
)
RATE = (
    "Rate how clearly each numbered sequence shows a given concept: 0 not at all, 1 vaguely or in part, 2 clearly. "
    "When unsure choose the lower number. Answer with a Python dictionary from number to rating and nothing else."
)


class JudgeError(ValueError):
    """A judge's answer that can't be read: prose, nothing, or ratings other than 0, 1 and 2."""


@runtime_checkable
class Judge(Protocol):
    """Whatever rates texts by a concept and writes texts for it."""

    def rate(self, concept: str, texts: Sequence[str]) -> list[int | None]:
        """How clearly each text shows the concept.

        Parameters
        ----------
        concept : str
            The description.
        texts : sequence of str

        Returns
        -------
        list of int or None
            0 (absent), 1 (vague) or 2 (clear); None where the judge left one out.
        """

    def generate(self, concept: str, n: int) -> list[str]:
        """Texts that show the concept.

        Parameters
        ----------
        concept : str
            The description.
        n : int
            About how many.

        Returns
        -------
        list of str
        """


class LexiconJudge:
    """Counts a concept's words in a text: an oracle for planted concepts, offline.

    Parameters
    ----------
    lexicon : mapping of str to sequence of str
        Words of each concept, whole words without regard to case.
    clear : int
        Hits from which the rating is 2; fewer, but one, is 1.
    templates : sequence of str
        Texts with `{}` that `generate` fills with the concept's words in turn.
    """

    def __init__(
        self, lexicon: Mapping[str, Sequence[str]], *, clear: int = 2, templates: Sequence[str] = ("{}",)
    ) -> None:
        check_range("clear", clear, 1)
        if not lexicon or not all(lexicon.values()):
            raise ValueError("lexicon must have a concept, and a word for each of them")
        self.lexicon = {concept: list(words) for concept, words in lexicon.items()}
        self.clear, self.templates = clear, list(templates)

    def rate(self, concept: str, texts: Sequence[str]) -> list[int | None]:
        """Ratings by the number of hits.

        Parameters
        ----------
        concept : str
            One of the lexicon.
        texts : sequence of str

        Returns
        -------
        list of int
        """
        pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, self._words(concept))) + r")\b", re.IGNORECASE)
        hits = [len(pattern.findall(text)) for text in texts]
        return [2 if n >= self.clear else int(n > 0) for n in hits]

    def generate(self, concept: str, n: int) -> list[str]:
        """Templates filled with the concept's words.

        Parameters
        ----------
        concept : str
            One of the lexicon.
        n : int
            At most so many.

        Returns
        -------
        list of str
        """
        filled = [template.format(word) for word in self._words(concept) for template in self.templates]
        return list(dict.fromkeys(filled))[:n]

    def _words(self, concept: str) -> list[str]:
        if concept not in self.lexicon:
            raise ValueError(f"concept={concept!r} isn't in the lexicon; known: {', '.join(self.lexicon)}")
        return self.lexicon[concept]


class ChatJudge:
    """A chat model that is asked.

    Parameters
    ----------
    client : callable
        From the system's message and the user's to the answer, both str: whatever service or model stands behind it.
    batch_size : int
        Texts in one question (the authors': 15).
    retries : int
        How often a question is asked again whose answer can't be read.

    Raises
    ------
    JudgeError
        From `rate` and `generate`, when no answer could be read: prose, nothing, or other ratings than 0, 1, 2.
    """

    def __init__(self, client: Callable[[str, str], str], *, batch_size: int = 15, retries: int = 1) -> None:
        check_range("batch_size", batch_size, 1)
        check_range("retries", retries, 0)
        self.client, self.batch_size, self.retries = client, batch_size, retries

    def rate(self, concept: str, texts: Sequence[str]) -> list[int | None]:
        """Ask for ratings, some texts at a time.

        Parameters
        ----------
        concept : str
            The description.
        texts : sequence of str

        Returns
        -------
        list of int or None
            None for texts that the answer passes over.
        """
        ratings: list[int | None] = []
        for low in range(0, len(texts), self.batch_size):
            part = texts[low : low + self.batch_size]
            listed = "\n".join(f"Sequence {i}: {text!r}" for i, text in enumerate(part))
            found = self._ask(RATE, f"Concept: {concept}\n{listed}", _as_ratings)
            ratings += [found.get(i) for i in range(len(part))]
        return ratings

    def generate(self, concept: str, n: int) -> list[str]:
        """Ask for texts until there are n, or as often as n.

        Parameters
        ----------
        concept : str
            The description.
        n : int
            How many.

        Returns
        -------
        list of str
            Without repeats; fewer than n if the judge repeats itself.
        """
        check_range("n", n, 1)
        texts: dict[str, None] = {}
        for _ in range(n):
            texts |= dict.fromkeys(self._ask(GENERATE, f"Concept: {concept}", _as_texts))
            if len(texts) >= n:
                break
        return list(texts)[:n]

    def _ask(self, system: str, user: str, read: Callable[[Any], Any]) -> Any:
        for left in range(self.retries, -1, -1):
            answer = self.client(system, user)
            try:
                return read(_literal(answer))
            except JudgeError:
                if left == 0:
                    raise
        raise AssertionError("unreachable")


def ratings_by_similarity(texts: Tensor, concepts: Tensor, *, vague: float, clear: float) -> Tensor:
    """Ratings by the cosine of sentence vectors: a judge without words, whose error can be measured.

    Parameters
    ----------
    texts : Tensor
        `(n, d)`, a vector for each text.
    concepts : Tensor
        `(k, d)`, one for each description.
    vague, clear : float
        Cosines from which the rating is 1 and 2.

    Returns
    -------
    Tensor
        `(n, k)` int64 of 0, 1, 2.

    Raises
    ------
    ValueError
        Vectors of other widths; `clear` below `vague`.
    """
    check_array("texts", texts, ("n", "d"))
    check_array("concepts", concepts, ("k", texts.shape[1]))
    check_range("clear", clear, vague)
    cosine = unit_norm(texts, dim=1) @ unit_norm(concepts, dim=1).to(texts).T
    return (cosine >= vague).long() + (cosine >= clear).long()


def _literal(answer: Any) -> Any:
    """The list or dictionary of an answer, also inside a code fence."""
    if not isinstance(answer, str) or not answer.strip():
        raise JudgeError(f"the judge returned nothing ({answer!r}); a Python list or dictionary was asked for")
    text = re.sub(r"^```\w*\n|\n?```$", "", answer.strip())
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError):
            continue
    raise JudgeError(f"the judge returned prose ({answer[:60]!r}); a Python list or dictionary was asked for")


def _as_ratings(found: Any) -> dict[int, int]:
    if not isinstance(found, dict) or not found:
        raise JudgeError(f"the judge returned {type(found).__name__}; a dictionary from number to rating was asked for")
    bad = [v for v in found.values() if isinstance(v, bool) or v not in RATINGS]
    if bad:
        raise JudgeError(f"the judge returned the rating {bad[0]!r}; accepted: 0, 1, 2")
    try:
        return {int(key): int(value) for key, value in found.items()}
    except ValueError:
        raise JudgeError(f"the judge returned the key {next(iter(found))!r}; numbers were asked for") from None


def _as_texts(found: Any) -> list[str]:
    if not isinstance(found, list) or not found or not all(isinstance(text, str) and text for text in found):
        raise JudgeError("the judge returned no list of texts, which was asked for")
    return found


def rated(judge: Judge, concept: str, texts: Sequence[str]) -> Tensor:
    """A judge's ratings as a tensor, −1 where it gave none.

    Parameters
    ----------
    judge : Judge
        Who rates.
    concept : str
        The description; not empty.
    texts : sequence of str

    Returns
    -------
    Tensor
        `(n,)` int64 of −1, 0, 1, 2.

    Raises
    ------
    JudgeError
        For another number of ratings than texts, or other ratings.
    """
    if not concept.strip():
        raise ValueError("concept is empty; a description is needed")
    ratings = judge.rate(concept, texts)
    if ratings is None or len(ratings) != len(texts):
        got = "nothing" if ratings is None else f"{len(ratings)} ratings"
        raise JudgeError(f"the judge returned {got} for {len(texts)} texts")
    if bad := [r for r in ratings if r is not None and r not in RATINGS]:
        raise JudgeError(f"the judge returned the rating {bad[0]!r}; accepted: 0, 1, 2 and None")
    return torch.from_numpy(np.array([-1 if r is None else r for r in ratings], dtype=np.int64))
