"""Subject-verb agreement: sentences whose verb form one known word decides, with a noun of the other number in between.

The task of Arras et al. 2025 (arXiv 2502.15886). Their natural sentences are annotated by a parser; ours are written
from templates, so the subject is known by construction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
    """A sentence up to its verb, and what follows. `subject` and `attractor` are ranges of characters in `prefix`."""

    prefix: str
    subject: tuple[int, int]
    verb: str
    foil: str
    attractor: tuple[int, int] | None = None
    suffix: str = SUFFIX
    kind: str = ""


@dataclass(frozen=True)
class AgreementBatch:
    """Sentences of equally many tokens.

    Attributes:
        ids: token ids `(B, S)`.
        position: where the verb is predicted `(B,)`: the last token, or the mask.
        right, wrong: ids of the verb form that agrees and of the other one `(B,)`.
        truth: the subject's tokens `(B, S)`.
        attractor: tokens of the noun of the other number `(B, S)`, if the sentences name one.
        words: all but the tokenizer's special tokens `(B, S)`: what is ranked.
        sentences: the B sentences.
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
        """The batch on another device."""
        return replace(self, **{name: value.to(device) for name, value in self.tensors().items()})

    def select(self, kept: Tensor) -> AgreementBatch:
        """The rows where `kept` (B,) is true."""
        chosen = tuple(s for s, keep in zip(self.sentences, kept.tolist(), strict=True) if keep)
        kept = kept.to(self.ids.device)
        return replace(self, sentences=chosen, **{name: value[kept] for name, value in self.tensors().items()})

    def split(self, size: int) -> list[AgreementBatch]:
        """Batches of at most `size` rows, in order."""
        check_range("size", size, 1)
        rows = torch.arange(len(self)).split(size)
        return [self.select((torch.arange(len(self)) >= r[0]) & (torch.arange(len(self)) <= r[-1])) for r in rows]


def agreement_sentences(
    n: int, *, rng: np.random.Generator, kinds: Sequence[str] = AGREEMENT_KINDS
) -> list[AgreementSentence]:
    """`n` different sentences from templates, equally many of each kind (up to one), drawn by `rng`.

    Args:
        kinds: "preposition" ("The keys near the cabinet"), "clause" ("The key that the girls found").

    Half of the pool has a plural subject; the noun in between always has the other number.
    """
    pools = [_pool(check_choice("kinds", kind, AGREEMENT_KINDS)) for kind in kinds]
    if not pools:
        raise ValueError(f"kinds is empty; choose from {', '.join(AGREEMENT_KINDS)}")
    check_range("n", n, 1, len(pools) * min(len(pool) for pool in pools))
    sentences = []
    for kind, pool, part in zip(kinds, pools, np.array_split(np.arange(n), len(pools))):
        chosen = rng.choice(len(pool), len(part), replace=False)
        verbs = rng.integers(len(VERBS), size=len(part))
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
    """Sentences from a table with the columns prefix, subject_start, subject_end, verb, foil and perhaps suffix.

    `subject_start` and `subject_end` count characters of the prefix. Raises `ValueError` for a missing column and for a
    range that is no part of the prefix.
    """
    needed = ("prefix", "subject_start", "subject_end", "verb", "foil")
    sentences = []
    for number, row in enumerate(rows):
        missing = [name for name in needed if name not in row]
        if missing:
            raise ValueError(f"row {number} has no {', '.join(missing)}; needed: {', '.join(needed)}")
        start, end = int(row["subject_start"]), int(row["subject_end"])
        if not 0 <= start < end <= len(row["prefix"]):
            raise ValueError(f"row {number}: subject {start}:{end} is no range of the prefix {row['prefix']!r}")
        suffix = str(row.get("suffix", SUFFIX))
        sentences.append(AgreementSentence(row["prefix"], (start, end), row["verb"], row["foil"], suffix=suffix))
    return sentences


def single_token(tokenizer: Any, word: str) -> int:
    """The id of `word` in the middle of a sentence; `ValueError` if the tokenizer splits it."""
    before = tokenizer("The", add_special_tokens=False).input_ids
    ids = tokenizer(f"The {word}", add_special_tokens=False).input_ids[len(before) :]
    if len(ids) != 1:
        pieces = ", ".join(repr(piece) for piece in tokenizer.convert_ids_to_tokens(ids)) or "none"
        raise ValueError(f"verb {word!r} is {len(ids)} tokens of this tokenizer ({pieces}); it must be one")
    return ids[0]


def agreement_batches(
    tokenizer: Any, sentences: Sequence[AgreementSentence], *, masked: bool = False
) -> list[AgreementBatch]:
    """Sentences as token ids, one batch per number of tokens, shortest first.

    Args:
        tokenizer: one of transformers' fast tokenizers.
        masked: put the tokenizer's mask for the verb and the suffix behind it (BERT); else the prefix alone.

    Raises:
        ValueError: a verb form that isn't one token, equal verb and foil, no sentences, a tokenizer without a mask.
        TypeError: a slow tokenizer, which can't say where its tokens stand in the text.
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
    encoded = tokenizer(texts, return_offsets_mapping=True)
    by_length: dict[int, list[int]] = {}
    for row, ids in enumerate(encoded.input_ids):
        by_length.setdefault(len(ids), []).append(row)
    return [_batch(tokenizer, sentences, encoded, rows, verbs, masked) for _, rows in sorted(by_length.items())]


def _batch(
    tokenizer: Any,
    sentences: Sequence[AgreementSentence],
    encoded: Any,
    rows: list[int],
    verbs: Mapping[str, int],
    masked: bool,
) -> AgreementBatch:
    chosen = tuple(sentences[row] for row in rows)
    ids = torch.tensor([encoded.input_ids[row] for row in rows])
    offsets = torch.tensor([encoded.offset_mapping[row] for row in rows])  # (B, S, 2)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    last = torch.full((len(rows),), ids.shape[1] - 1)
    words = ~torch.isin(ids, torch.tensor(sorted(special), dtype=ids.dtype))
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
