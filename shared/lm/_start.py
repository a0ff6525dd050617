"""The token that a text starts with.

Attention rests on a text's first token when it has nothing to fetch. Without a start token that is the first *word*,
and explanations hand it relevance for a role that has nothing to do with its meaning.
"""

from __future__ import annotations

from typing import Any

SEPARATOR = (
    "<|endoftext|>"  # between documents when GPT-2's descendants are trained, whatever a chat tokenizer calls bos
)


def start_token(tokenizer: Any, *, start: str | None = "auto") -> int | None:
    """The id to put in front of a text.

    Parameters
    ----------
    tokenizer : of transformers
    start : str, optional
        "auto": what the tokenizer itself puts there; else the separator `<|endoftext|>` if it has one; else its token
        for the beginning, or the end, of a text. None: nothing, not even the tokenizer's own. Any other: the token of
        that name.

    Returns
    -------
    int, or None for none

    Raises
    ------
    ValueError
        For a name that is no token, and for "auto" with a tokenizer that has none of these.
    """
    if start is None:
        return None
    if start != "auto":
        return _named(tokenizer, start)
    own = tokenizer("").input_ids[:1]
    if own and own[0] in tokenizer.all_special_ids:
        return own[0]
    if _has(tokenizer, SEPARATOR):
        return tokenizer.convert_tokens_to_ids(SEPARATOR)
    named = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if named is None:
        raise ValueError(
            "start='auto': this tokenizer has no start, end or separator token; name one, or None for none"
        )
    return named


def _has(tokenizer: Any, name: str) -> bool:
    """Whether a name is a token; `get_vocab` would build all of the vocabulary to say so."""
    index = tokenizer.convert_tokens_to_ids(name)  # of an unknown name: None, or the unknown token's
    return index is not None and tokenizer.convert_ids_to_tokens(index) == name


def _named(tokenizer: Any, start: str) -> int:
    if not _has(tokenizer, start):
        raise ValueError(f"start={start!r} is no token of this tokenizer; accepted: 'auto', None, or a token's name")
    return tokenizer.convert_tokens_to_ids(start)


def token_ids(tokenizer: Any, text: str, *, start: str | None = "auto") -> list[int]:
    """A text's token ids, with a start token in front.

    Parameters
    ----------
    tokenizer : of transformers
    text : str
    start : str, optional
        As for `start_token`.

    Returns
    -------
    list of int

    Raises
    ------
    ValueError
        As `start_token`.
    """
    first = start_token(tokenizer, start=start)
    return [*([] if first is None else [first]), *tokenizer(text, add_special_tokens=False).input_ids]
