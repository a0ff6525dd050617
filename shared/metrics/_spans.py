"""Foreign words found on pages: spans matched with a tolerance for misread letters, pages counted right or wrong."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shared._checks import check_range

_LIGATURES = {"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ĳ": "ij", "Ĳ": "IJ", "ſ": "s", "&": "et"}
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class SpanScores:
    """How well the words of each page's spans were found, from 0 to 1.

    Attributes
    ----------
    precision, recall, f1 : np.ndarray
        One number per page; NaN where the page has no true span, which the benchmark leaves out of its means.
    matched, found, true : np.ndarray
        Words of each page: matched ones, predicted ones, true ones.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    matched: np.ndarray
    found: np.ndarray
    true: np.ndarray


def plain_words(text: str) -> list[str]:
    """Words as the benchmark compares them: letters without accents, ligatures, case, digits, hyphens, punctuation.

    Only ASCII punctuation goes, as in the benchmark: dashes and curly quotes stay. The benchmark's sentence splitter
    only matters to word pairs and longer.

    Parameters
    ----------
    text : str
        A span, or a whole page.

    Returns
    -------
    The words in their order.

    Examples
    --------
    >>> plain_words("Cæſar & Galli-\\nam, 1736.")
    ['caesar', 'et', 'galliam']
    """
    text = "".join(_LIGATURES.get(letter, letter) for letter in unicodedata.normalize("NFKD", text))
    text = "".join(letter for letter in text if not unicodedata.combining(letter)).lower()
    text = re.sub(r"(\w)\s*-\s*(\w)", r"\1\2", re.sub(r"\d+", "", text))
    return text.translate(_NO_PUNCTUATION).split()


def span_scores(
    predicted: Sequence[Sequence[str]], truth: Sequence[Sequence[str]], *, theta: float = 0.2, optimal: bool = False
) -> SpanScores:
    r"""Words of predicted spans against those of true ones, page by page.

    A predicted word :math:`p` may stand for a true one :math:`g` if
    :math:`\mathrm{Lev}(g, p) \le \theta\,|g|`; each word is used once, in the order of the page (N1F1s of Wu, Shu,
    Fischer et al., EACL 2026).

    Parameters
    ----------
    predicted, truth : sequences of lists of str
        The spans of each page; an empty list where there is none.
    theta : float
        Share of a true word's letters that may be wrong, from 0 to 1. At 0.2 words under five letters must be exact.
    optimal : bool
        Whether words are paired so that most match, instead of each with the first that fits.

    Returns
    -------
    `SpanScores`.

    Raises
    ------
    ValueError
        If the two have other numbers of pages, or `theta` is out of range.

    Examples
    --------
    >>> scores = span_scores([["arma uirumque cane", "the"]], [["arma virumque cano"]])
    >>> scores.recall.round(2), scores.precision
    (array([0.67]), array([0.5]))
    """
    check_range("theta", theta, 0, 1)
    if len(predicted) != len(truth):
        raise ValueError(
            f"predicted has {len(predicted)} pages, truth has {len(truth)}; one list of spans per page each"
        )
    pages = [(_words(p), _words(t)) for p, t in zip(predicted, truth)]
    found, true = (np.array([len(page[side]) for page in pages]) for side in (0, 1))
    pair = _best_pairs if optimal else _first_pairs
    matched = np.array([pair(_fits(p, t, theta)) if p and t else 0 for p, t in pages])
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(found > 0, matched / found, 0.0)
        recall = matched / true
        f1 = 2 * matched / (found + true)
    precision, f1 = (np.where(true > 0, score, np.nan) for score in (precision, f1))
    return SpanScores(precision, recall, f1, matched, found, true)


def page_scores(predicted: Iterable[bool], truth: Iterable[bool]) -> dict[str, float]:
    """Pages said to hold the language against those that do.

    Parameters
    ----------
    predicted, truth : iterables of bool
        One truth value per page.

    Returns
    -------
    `accuracy`, `macro_f1` (mean of both classes' F1) and `mcc` (Matthews' correlation; 0 where it is undefined).

    Raises
    ------
    ValueError
        Without pages, or with other numbers of them.

    Examples
    --------
    >>> page_scores([True, True, False, False], [True, True, True, False])["accuracy"]
    0.75
    """
    said, is_so = (np.asarray(list(one), dtype=bool) for one in (predicted, truth))
    if said.shape != is_so.shape or not said.size:
        raise ValueError(f"predicted has {said.size} pages, truth has {is_so.size}; as many in both, and at least one")
    tp, tn = (said & is_so).sum(), (~said & ~is_so).sum()
    fp, fn = (said & ~is_so).sum(), (~said & is_so).sum()
    f1 = [2 * hit / max(2 * hit + fp + fn, 1) for hit in (tp, tn)]
    below = np.sqrt(float(tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    mcc = (float(tp) * tn - float(fp) * fn) / below if below else 0.0
    return {"accuracy": float((tp + tn) / said.size), "macro_f1": float(np.mean(f1)), "mcc": float(mcc)}


def _words(spans: Sequence[str]) -> list[str]:
    return [word for span in spans for word in plain_words(str(span))]


def _fits(predicted: list[str], truth: list[str], theta: float) -> np.ndarray:
    """Whether each predicted word (row) may stand for each true one (column)."""
    letters = {letter: i for i, letter in enumerate(sorted(set("".join(predicted + truth))))}
    bags = [np.zeros((len(words), len(letters)), dtype=int) for words in (predicted, truth)]
    for bag, words in zip(bags, (predicted, truth)):
        for row, word in enumerate(words):
            np.add.at(bag[row], [letters[letter] for letter in word], 1)
    extra = bags[0][:, None] - bags[1][None]
    at_least = np.maximum(extra.clip(0).sum(-1), (-extra).clip(0).sum(-1))  # no edit mends two letters
    allowed = np.array([int(theta * len(word) + 1e-9) for word in truth])
    fits = at_least <= allowed
    for row, column in zip(*np.nonzero(fits)):
        one, other = predicted[row], truth[column]
        fits[row, column] = one == other or (allowed[column] > 0 and _edits(one, other) <= allowed[column])
    return fits


def _edits(one: str, other: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        before, row[0] = row[0], i
        for j, wanted in enumerate(other, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != wanted))
    return row[-1]


def _first_pairs(fits: np.ndarray) -> int:
    free, count = np.ones(fits.shape[1], dtype=bool), 0
    for row in fits:
        open_columns = np.flatnonzero(row & free)
        if open_columns.size:
            free[open_columns[0]] = False
            count += 1
    return count


def _best_pairs(fits: np.ndarray) -> int:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(fits, maximize=True)
    return int(fits[rows, columns].sum())
