"""Changes of texts with a log of what was changed, so that a difference between two collections is known."""

from __future__ import annotations

import re

import numpy as np

from shared._checks import check_choice, check_range

TO_FEMALE = {"he": "she", "his": "her", "him": "her", "himself": "herself"}
_TO_MALE = {"she": "he", "hers": "his", "herself": "himself"}  # "her" is his or him, by what follows
_PRONOUN = re.compile(r"\b(he|she|his|him|her|hers|himself|herself)\b", re.IGNORECASE)

EMOJI = ("😊", "😂", "😎", "😍", "👍", "🤔", "🎉", "🙌", "💡", "🔥")
GREETINGS = ("Hi", "Hey", "Sup", "Yo", "Howdy")
OPENINGS = ("What's new?", "Quick thing:", "Hope life treats you nicely!", "Me again!")
CLOSINGS = ("Later!", "Ping me!", "Ciao!", "Bye for now!", "Talk soon!")
PHRASES = {  # formal, as a pattern: casual ones
    r"\bI hope this (?:e-?mail|message|letter) finds you well[.,]?": OPENINGS,
    r"\b(?:Sincerely|Best regards),": CLOSINGS,
    r"\bDear (?:Professor|Dr\.|Prof\.)": GREETINGS,
}
SHORT = {"would like to": "wanna", "have to": "gotta", "please": "plz", "are not": "ain't"}

Log = list[tuple[str, str]]


def first_gender(text: str) -> str | None:
    """The gender of a text's first pronoun.

    Parameters
    ----------
    text : str

    Returns
    -------
    "male", "female", or None without one
    """
    found = _PRONOUN.search(text)
    return None if found is None else "male" if found[0].lower() in TO_FEMALE else "female"


def swap_pronouns(text: str, *, to: str = "female") -> tuple[str, Log]:
    """Turn every pronoun of the other gender into `to`.

    Capitals are kept. "her" becomes "his" before a word and "him" elsewhere.

    Parameters
    ----------
    text : str
    to : "female" or "male"

    Returns
    -------
    text : str
    log : list of (old, new), one per change
    """
    check_choice("to", to, ("female", "male"))
    log: Log = []

    def turn(found: re.Match) -> str:
        old = found[0]
        if to == "female":
            new = TO_FEMALE.get(old.lower())
        elif old.lower() == "her":
            new = "his" if re.match(r"\s+\w", text[found.end() :]) else "him"
        else:
            new = _TO_MALE.get(old.lower())
        if new is None:
            return old
        new = new.capitalize() if old[0].isupper() else new
        log.append((old, new))
        return new

    return _PRONOUN.sub(turn, text), log


def casualise(text: str, *, generator: np.random.Generator, rate: float = 0.3, variants: int = 10) -> tuple[str, Log]:
    """Make a formal e-mail casual.

    An emoji after a sentence, a casual opening for "I hope this email finds you well", a casual closing for
    "Sincerely," or "Best regards,", a greeting for "Dear Professor | Dr. | Prof.", and short forms.

    Parameters
    ----------
    text : str
    generator : numpy.random.Generator
    rate : float
        Chance of each kind of change.
    variants : int
        At most so many different emoji, greetings, openings and closings are used.

    Returns
    -------
    text : str
    log : list of (old, new), one per change
    """
    check_range("rate", rate, 0.0, 1.0)
    check_range("variants", variants, 1)
    log: Log = []

    def change(pattern: str, choices: tuple[str, ...], text: str) -> str:
        found = re.search(pattern, text, re.IGNORECASE)
        if found is None:
            return text
        new = str(generator.choice(choices[:variants]))
        log.append((found[0], new))
        return text[: found.start()] + new + text[found.end() :]

    sentences = re.split(r"(?<=\w[.!?])(\s+)", text)
    for k in range(0, len(sentences), 2):
        if sentences[k].strip() and generator.random() < rate:
            emoji = str(generator.choice(EMOJI[:variants]))
            sentences[k] += f" {emoji}"
            log.append(("", emoji))
    text = "".join(sentences)
    for pattern, choices in PHRASES.items():
        if generator.random() < rate:
            text = change(pattern, choices, text)
    if generator.random() < rate:
        for long, short in SHORT.items():
            text = change(rf"\b{long}\b", (short,), text)
    return text, log
