"""Kinds of tokens (punctuation, content, function words), and other tokens to put in their place as a control."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_array, check_range, wide

FUNCTION_WORDS = frozenset(
    (
        "a an the this that these those each every some any no all both either neither such same other another "
        "i you he she it we they me him her us them my your his its our their mine yours hers ours theirs myself "
        "yourself himself herself itself ourselves themselves who whom whose which what when where why how there here "
        "in on at by for with about against between into through during before after above below to from up down of "
        "off over under within without among along across around behind beyond near toward towards upon since until "
        "till per via than as like and or but nor so yet if because although though while whereas unless whether once "
        "am is are was were be been being have has had having do does did doing will would shall should can could may "
        "might must not also only just very too then again more most much many few less least own s t re ve ll d m"
    ).split()
)
TYPES = ("punctuation", "content", "function")


def token_types(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """What each token of a text is: "punctuation", "content" or "function".

    Special tokens and those without letter or digit are punctuation. Of the others the whole word decides, all of its
    tokens alike: a closed class of English words (articles, pronouns, prepositions, conjunctions, auxiliaries) is
    function, the rest content.

    Parameters
    ----------
    tokenizer : of transformers
    ids : sequence of int
        Of one text.

    Returns
    -------
    list of str
    """
    special, pieces = set(tokenizer.all_special_ids), [tokenizer.decode([i]) for i in ids]
    bare = [i in special or not any(c.isalnum() for c in piece) for i, piece in zip(ids, pieces)]
    spaced = [bool(re.match(r"[\s▁Ġ]", raw)) for raw in _raw(tokenizer, ids, pieces)]
    words: list[list[int]] = []
    for place in range(len(ids)):
        if bare[place]:
            continue
        if words and words[-1][-1] == place - 1 and not spaced[place]:
            words[-1].append(place)
        else:
            words.append([place])
    types = ["punctuation"] * len(ids)
    for word in words:
        text = "".join(pieces[place] for place in word).strip().lower().strip("'’")
        for place in word:
            types[place] = "function" if text in FUNCTION_WORDS else "content"
    return types


def _raw(tokenizer: Any, ids: Sequence[int], pieces: Sequence[str]) -> list[str]:
    """Tokens as the vocabulary spells them: decoding one alone strips the blank of SentencePiece's."""
    raw = tokenizer.convert_ids_to_tokens(list(ids))
    return [piece if token is None else token for token, piece in zip(raw, pieces)]


def matched_keys(
    keys: Tensor,
    allowed: Tensor,
    received: Tensor,
    *,
    generator: torch.Generator,
    within: float = 0.1,
    tries: int = 500,
) -> tuple[Tensor, Tensor]:
    """Random tokens in place of some: as many, receiving as much attention, and others where that can be had.

    Parameters
    ----------
    keys : Tensor of bool, shape (B, S)
        The tokens to stand in for.
    allowed : Tensor of bool, shape (B, S)
        Those that may be drawn. Where they are fewer than the marked ones all of them are taken.
    received : Tensor, shape (B, S)
        The attention that each token receives, at least 0.
    generator : torch.Generator
    within : float
        A draw whose sum differs by at most this share from that of `keys` is accepted.
    tries : int
        Draws. Of the accepted ones that is taken which has the fewest of `keys` itself; without any, the nearest.

    Returns
    -------
    drawn : Tensor of bool, shape (B, S)
    matched : Tensor of bool, shape (B,)
        Whether number and attention agree.

    Raises
    ------
    ValueError
        For tensors of other shapes or types, or attention that isn't finite.
    """
    check_array("received", received, ("B", "S"))
    for name, given in {"keys": keys, "allowed": allowed}.items():
        if given.dtype != torch.bool or given.shape != received.shape:
            raise ValueError(f"{name} is {given.dtype} {tuple(given.shape)}; accepted: bool {tuple(received.shape)}")
    check_range("tries", tries, 1)
    check_range("within", within, 0.0)
    received = wide(received.cpu())
    keys, allowed, device = keys.cpu(), allowed.cpu(), keys.device
    count, wanted = keys.sum(1), (received * keys).sum(1)
    order = torch.rand(tries, *keys.shape, generator=generator).masked_fill(~allowed, 2.0)
    drawn = (order.argsort(-1).argsort(-1) < count[:, None]) & allowed  # (tries, B, S)
    off = ((received * drawn).sum(-1) - wanted).abs() / wanted.clamp(min=1e-12)
    accepted, shared = off <= within, (drawn & keys).sum(-1)
    fewest = shared.masked_fill(~accepted, keys.shape[1] + 1).argmin(0)
    chosen = torch.where(accepted.any(0), fewest, off.argmin(0))
    rows = torch.arange(len(keys))
    return drawn[chosen, rows].to(device), (accepted.any(0) & (drawn[chosen, rows].sum(1) == count)).to(device)
