"""Minimal edits of real sentences: one year, number, nationality, place or name becomes another article's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared._checks import check_choice, check_range

EDIT_KINDS = ("year", "number", "nationality", "place", "name")
NATIONALITIES = tuple(
    (
        "American Argentine Australian Austrian Belgian Brazilian British Canadian Chinese Cuban Czech Danish Dutch "
        "Egyptian English Finnish French German Greek Hungarian Indian Iranian Irish Israeli Italian Jamaican "
        "Japanese Korean Mexican Mongolian Nigerian Norwegian Pakistani Persian Polish Portuguese Roman Romanian "
        "Russian Scottish Soviet Spanish Swedish Swiss Turkish Ukrainian Vietnamese Welsh"
    ).split()
)
_DEMONYM = re.compile(
    rf"(?<!-)\b(?:{'|'.join(NATIONALITIES)})\b(?!-)(?! (?:Sea|Ocean|Empire|Republic|Union|Revolution))"
)
_YEAR = re.compile(r"\b(?:1[0-9]{3}|20[0-2][0-9])\b(?![,.]\d|s)")
_NUMBER = re.compile(
    r"\b(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]{1,2})\b(?!(?:st|nd|rd|th|s|[.,%–-])\w?)(?! (?:BC|AD|CE))"
    r"|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty)\b"
)
_CAPITALISED = re.compile(r"\b[A-Z][\w'’.-]*\w(?: (?:(?:of|the|de|van|von|da|al) )?[A-Z][\w'’.-]*\w)*")
_PLACES = {  # what a place is, by its article's description
    "country": re.compile(r"^(?:Island |Landlocked |Transcontinental )?[Cc]ountry\b"),
    "city": re.compile(r"^(?:Capital|City|(?:[\w-]+ )?[Ll]argest city|Most populous city|Metropolis)\b"),
}
_ABBREVIATED = "".join(rf"(?<!\b{word})" for word in "St Mt Dr Mr Jr Sr No Op vs c v".split())
_SENTENCE_END = re.compile(rf"(?<=[a-z0-9)\]\"”]){_ABBREVIATED}\. (?=[A-Z])")

Articles = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class LeadEdit:
    """An article's sentences with one value changed, and what was changed.

    Attributes
    ----------
    title : str
        The article's.
    text : str
        The sentences with the new value: what contradicts the world.
    original : str
        The sentences as the article has them.
    kind : str
        One of `EDIT_KINDS`.
    old, new : str
        The value and what stands for it.
    start : int
        The character at which `new` starts in `text`, and `old` in `original`.
    source : str
        Title of the article that `new` is from.
    """

    title: str
    text: str
    original: str
    kind: str
    old: str
    new: str
    start: int
    source: str

    @property
    def span(self) -> tuple[int, int]:
        """The characters of `text` that are new."""
        return self.start, self.start + len(self.new)


@dataclass(frozen=True)
class LeadChoice:
    """An article's sentence up to a value, with what stands there and what doesn't.

    Attributes
    ----------
    title, kind : str
        The article's title; one of `EDIT_KINDS`.
    prompt : str
        The sentences up to the value, without the blank in front of it.
    values : tuple of str
        The right value, then the wrong ones.
    """

    title: str
    kind: str
    prompt: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class _Value:
    kind: str
    sort: str  # what it may be swapped with: a country with a country
    text: str
    start: int
    article: str


def lead_sentences(text: str, *, count: int = 1) -> str:
    """The first sentences of an article.

    Parameters
    ----------
    text : str
    count : int

    Returns
    -------
    str
    """
    check_range("count", count, 1)
    ends = [found.start() + 1 for found in _SENTENCE_END.finditer(text)]
    return text[: ends[count - 1]] if len(ends) >= count else text


def lead_edits(
    articles: Articles,
    *,
    generator: np.random.Generator,
    kinds: Sequence[str] = EDIT_KINDS,
    sentences: int = 1,
    known: Articles | None = None,
) -> list[LeadEdit]:
    """For each article one edit: a value in its first sentences becomes a like value of another article's.

    The article's title is never edited, nor a value that its sentences hold twice, and the new value doesn't stand in
    them already. Places and names are known by their own articles: countries and cities by their descriptions, people
    by the topic.

    Parameters
    ----------
    articles : sequence of mappings
        With "title", "text", "description" and "topic", such as `table.to_dict("records")` of the zoo's leads.
    generator : numpy.random.Generator
    kinds : sequence of str
        Which values may be edited; one is drawn where an article has several.
    sentences : int
        How many of each article are kept.
    known : sequence of mappings, optional
        Articles whose titles are the known places and names; those given without. They may be of other splits: only
        titles are taken from them.

    Returns
    -------
    list of LeadEdit
        In the order of the articles; those without such a value are left out.

    Raises
    ------
    ValueError
        For an unknown kind, or none.
    """
    kinds = [check_choice("kinds", kind, EDIT_KINDS) for kind in kinds]
    if not kinds:
        raise ValueError(f"kinds is empty; accepted: some of {', '.join(EDIT_KINDS)}")
    sorts = dict(_sorts_of_titles(articles if known is None else known))
    texts = {article["title"]: lead_sentences(article["text"], count=sentences) for article in articles}
    values = {title: [v for v in _values(title, text, sorts) if v.kind in kinds] for title, text in texts.items()}
    pools: dict[str, list[_Value]] = {}
    for value in (v for found in values.values() for v in found):
        pools.setdefault(value.sort, []).append(value)
    edits = (_edit(texts[title], found, pools, generator) for title, found in values.items() if found)
    return [edit for edit in edits if edit is not None]


def lead_choices(
    articles: Articles,
    *,
    generator: np.random.Generator,
    kinds: Sequence[str] = EDIT_KINDS,
    wrong: int = 3,
    sentences: int = 1,
    known: Articles | None = None,
    accept: Callable[[str], bool] | None = None,
    alike: Callable[[str, str], bool] | None = None,
) -> list[LeadChoice]:
    """For each article one cloze: its sentences up to a value, that value, and like values of other articles.

    Values are found as in `lead_edits`. A wrong value is drawn the oftener the more articles have it.

    Parameters
    ----------
    articles, generator, kinds, sentences, known
        As for `lead_edits`.
    wrong : int
        How many wrong values each has.
    accept : callable, optional
        Says of a value whether it may be used.
    alike : callable, optional
        Says of two values whether both could be right; such aren't put side by side.

    Returns
    -------
    list of LeadChoice
        In the order of the articles; those without such a value, or without enough wrong ones, are left out.

    Raises
    ------
    ValueError
        As `lead_edits`.
    """
    kinds = [check_choice("kinds", kind, EDIT_KINDS) for kind in kinds]
    check_range("wrong", wrong, 1)
    sorts = dict(_sorts_of_titles(articles if known is None else known))
    texts = {article["title"]: lead_sentences(article["text"], count=sentences) for article in articles}
    usable = {
        title: [v for v in _values(title, text, sorts) if v.kind in kinds and (accept is None or accept(v.text))]
        for title, text in texts.items()
    }
    pools: dict[str, list[_Value]] = {}
    for value in (v for found in usable.values() for v in found):
        pools.setdefault(value.sort, []).append(value)
    choices = []
    for title, found in usable.items():
        behind_blank = [v for v in found if texts[title][v.start - 1] == " "]
        if not behind_blank:
            continue
        right = behind_blank[int(generator.integers(len(behind_blank)))]
        values = [right.text]
        for place in generator.permutation(len(pools[right.sort])):
            if len(values) > wrong:
                break
            new = pools[right.sort][place]
            clash = new.text in values or new.text in texts[title] or not _fits(texts[title], right, new)
            if not clash and not (alike and any(alike(new.text, value) for value in values)):
                values.append(new.text)
        if len(values) == wrong + 1:
            choices.append(LeadChoice(title, right.kind, texts[title][: right.start - 1], tuple(values)))
    return choices


def _sorts_of_titles(articles: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    for article in articles:
        for sort, pattern in _PLACES.items():
            if pattern.match(article["description"]):
                yield article["title"], sort
        if article["topic"] == "People" and " " in article["title"]:
            yield article["title"], "name"


def _values(title: str, text: str, sorts: Mapping[str, str]) -> list[_Value]:
    """Values that stand once in the text, outside the title's own mention."""
    found = [("year", "year", m) for m in _YEAR.finditer(text)]
    years = {m.span() for *_, m in found}
    found += [
        ("number", "number in words" if m[0].isalpha() else "number", m)
        for m in _NUMBER.finditer(text)
        if m.span() not in years
    ]
    found += [("nationality", "nationality", m) for m in _DEMONYM.finditer(text)]
    for m in _CAPITALISED.finditer(text):
        sort = sorts.get(m[0])
        if sort is not None:
            found.append(("name" if sort == "name" else "place", sort, m))
    named = set(title.split())
    return [
        _Value(kind, sort, m[0], m.start(), title)
        for kind, sort, m in found
        if text.count(m[0]) == 1 and not named & set(m[0].split()) and m.start() > 0
    ]


def _edit(
    text: str, found: Sequence[_Value], pools: Mapping[str, Sequence[_Value]], generator: np.random.Generator
) -> LeadEdit | None:
    old = found[int(generator.integers(len(found)))]
    others = [v for v in pools[old.sort] if v.article != old.article and v.text not in text and _fits(text, old, v)]
    if not others:
        return None
    new = others[int(generator.integers(len(others)))]
    edited = text[: old.start] + new.text + text[old.start + len(old.text) :]
    return LeadEdit(old.article, edited, text, old.kind, old.text, new.text, old.start, new.article)


def _fits(text: str, old: _Value, new: _Value) -> bool:
    """Behind "a" or "an" the new word must begin like the old one."""
    behind_article = re.search(r"\ban? $", text[: old.start]) is not None
    return not behind_article or (new.text[0] in "AEIOUaeiou") == (old.text[0] in "AEIOUaeiou")
