"""Agreement sentences as batches of token ids, with the subject's tokens as the truth (Arras et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_array, check_range
from shared.lm._start import start_token
from shared.worlds import AgreementSentence


@dataclass(frozen=True)
class AgreementBatch:
    """Sentences of equally many tokens.

    Attributes
    ----------
    ids : Tensor of int64, shape (B, S)
    position : Tensor of int64, shape (B,)
        Where the verb is predicted: the last token, or the mask.
    right, wrong : Tensor of int64, shape (B,)
        Ids of the verb form that agrees and of the other one.
    truth : Tensor of bool, shape (B, S)
        The subject's tokens.
    attractor : Tensor of bool, shape (B, S)
        Tokens of the noun of the other number, if the sentences name one.
    words : Tensor of bool, shape (B, S)
        All but the start token and the tokenizer's special ones: what is ranked.
    sentences : tuple of AgreementSentence
    """

    ids: Tensor
    position: Tensor
    right: Tensor
    wrong: Tensor
    truth: Tensor
    attractor: Tensor
    words: Tensor
    sentences: tuple[AgreementSentence, ...]

    def __len__(self) -> int:
        return len(self.sentences)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def to(self, device: torch.device | str) -> AgreementBatch:
        """The batch on another device.

        Parameters
        ----------
        device : torch.device or str

        Returns
        -------
        AgreementBatch
        """
        return replace(self, **{name: value.to(device) for name, value in self.tensors().items()})

    def select(self, kept: Tensor) -> AgreementBatch:
        """Some of the rows.

        Parameters
        ----------
        kept : Tensor of bool, shape (B,)

        Returns
        -------
        AgreementBatch
        """
        check_array("kept", kept, (len(self),))
        chosen = tuple(s for s, keep in zip(self.sentences, kept.tolist(), strict=True) if keep)
        kept = kept.to(self.ids.device)
        return replace(self, sentences=chosen, **{name: value[kept] for name, value in self.tensors().items()})

    def split(self, size: int) -> list[AgreementBatch]:
        """Batches of at most `size` rows, in order.

        Parameters
        ----------
        size : int

        Returns
        -------
        list of AgreementBatch
        """
        check_range("size", size, 1)
        number = torch.arange(len(self)) // size
        return [self.select(number == part) for part in number.unique()]


def single_token(tokenizer: Any, word: str) -> int:
    """The id of a word in the middle of a sentence.

    Parameters
    ----------
    tokenizer : of transformers
    word : str

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the tokenizer splits the word.
    """
    before = tokenizer("The", add_special_tokens=False).input_ids
    ids = tokenizer(f"The {word}", add_special_tokens=False).input_ids[len(before) :]
    if len(ids) != 1:
        pieces = ", ".join(repr(piece) for piece in tokenizer.convert_ids_to_tokens(ids)) or "none"
        raise ValueError(f"verb {word!r} is {len(ids)} tokens of this tokenizer ({pieces}); it must be one")
    return ids[0]


def agreement_batches(
    tokenizer: Any, sentences: Sequence[AgreementSentence], *, masked: bool = False, start: str | None = "auto"
) -> list[AgreementBatch]:
    """Sentences as token ids, one batch per number of tokens, shortest first.

    Parameters
    ----------
    tokenizer : one of transformers' fast tokenizers
    sentences : sequence of shared.worlds.AgreementSentence
    masked : bool
        Put the tokenizer's mask for the verb and the suffix behind it (BERT); else the prefix alone.
    start : str, optional
        What a prefix starts with, as for `start_token`; it is never ranked. Masked sentences keep the tokenizer's own.

    Returns
    -------
    list of AgreementBatch

    Raises
    ------
    ValueError
        For a verb form that isn't one token, equal verb and foil, no sentences, a tokenizer without a mask, a start
        that is no token.
    TypeError
        For a slow tokenizer, which can't say where its tokens stand in the text.
    """
    if not sentences:
        raise ValueError("sentences is empty; at least one is needed")
    if not getattr(tokenizer, "is_fast", False):
        raise TypeError(f"tokenizer must be a fast one (it locates the subject); got {type(tokenizer).__name__}")
    if masked and tokenizer.mask_token is None:
        raise ValueError("masked=True needs a tokenizer with a mask token; this one has none")
    verbs = {word: single_token(tokenizer, word) for s in sentences for word in (s.verb, s.foil)}
    same = next((s for s in sentences if verbs[s.verb] == verbs[s.foil]), None)
    if same is not None:
        raise ValueError(f"verb {same.verb!r} and foil {same.foil!r} are the same token; nothing to tell apart")
    texts = [f"{s.prefix} {tokenizer.mask_token}{s.suffix}" if masked else s.prefix for s in sentences]
    encoded = tokenizer(texts, return_offsets_mapping=True, add_special_tokens=masked)
    ids, offsets, first = (
        encoded.input_ids,
        encoded.offset_mapping,
        None if masked else start_token(tokenizer, start=start),
    )
    if first is not None:
        ids, offsets = [[first, *row] for row in ids], [[(0, 0), *row] for row in offsets]
    by_length: dict[int, list[int]] = {}
    for number, row in enumerate(ids):
        by_length.setdefault(len(row), []).append(number)
    return [_batch(tokenizer, sentences, ids, offsets, rows, verbs, masked) for _, rows in sorted(by_length.items())]


def _batch(
    tokenizer: Any,
    sentences: Sequence[AgreementSentence],
    all_ids: list[list[int]],
    all_offsets: list[list[tuple[int, int]]],
    rows: list[int],
    verbs: Mapping[str, int],
    masked: bool,
) -> AgreementBatch:
    chosen = tuple(sentences[row] for row in rows)
    ids = torch.tensor([all_ids[row] for row in rows])
    offsets = torch.tensor([all_offsets[row] for row in rows])  # (B, S, 2)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    last = torch.full((len(rows),), ids.shape[1] - 1)
    words = ~torch.isin(ids, torch.tensor(sorted(special), dtype=ids.dtype)) & (offsets[..., 1] > 0)
    return AgreementBatch(
        ids=ids,
        position=(ids == tokenizer.mask_token_id).int().argmax(1) if masked else last,
        right=torch.tensor([verbs[s.verb] for s in chosen]),
        wrong=torch.tensor([verbs[s.foil] for s in chosen]),
        truth=_covered(offsets, [s.subject for s in chosen]) & words,
        attractor=_covered(offsets, [s.attractor or (0, 0) for s in chosen]) & words,
        words=words,
        sentences=chosen,
    )


def _covered(offsets: Tensor, ranges: Sequence[tuple[int, int]]) -> Tensor:
    """Tokens (B, S) that share a character with the row's range."""
    start, end = torch.tensor(ranges).unbind(1)
    return torch.maximum(offsets[..., 0], start[:, None]) < torch.minimum(offsets[..., 1], end[:, None])
