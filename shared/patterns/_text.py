"""Words, punctuation and emoji of a text as tokens."""

from __future__ import annotations

import re

_PICTURE = "[\U0001f1e6-\U0001faff\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff]"
_EMOJI = f"{_PICTURE}[\ufe0f\U0001f3fb-\U0001f3ff]*(?:\u200d{_PICTURE}[\ufe0f\U0001f3fb-\U0001f3ff]*)*"
_FLAG = "[\U0001f1e6-\U0001f1ff]{2}"
_EMOTICON = r"(?<!\w)[:;=][-']?[)(DPp/\\|](?!\w)|<3"
_WORD = r"\w+(?:['’]\w+)*"
_TOKEN = re.compile(f"{_FLAG}|{_EMOJI}|{_EMOTICON}|{_WORD}|[^\\w\\s]")


def tokenize_words(text: str, *, lowercase: bool = False) -> list[str]:
    """Words (with inner apostrophes), emoticons, emoji (a joined one is one token) and punctuation marks, in order.

    Parameters
    ----------
    text : str
        Any text.
    lowercase : bool
        Bring it to lower case first.

    Returns
    -------
    list of str
        The tokens, repetitions included.

    Raises
    ------
    TypeError
        If `text` is no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"text is {type(text).__name__}; expected a string")
    return _TOKEN.findall(text.lower() if lowercase else text)
