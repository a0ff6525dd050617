"""Names for concepts: a vector for each in the space shared with text, and the nearest word (CFM/Insight)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from shared._checks import check_array, check_choice, check_range
from shared.concepts._hierarchy import implications
from shared.stats import unit_norm

NAMING_METHODS = ("family", "family_binary", "own", "decoder", "decoder_bias")
NAMELESS = "—"
_SCALE = {"family": 1.33, "own": 1.33, "family_binary": 1.0}  # the authors'; they outweigh the decoder's bias
_CHUNK = 2**24  # cosines held at once


@dataclass(frozen=True)
class Vocabulary:
    """Words and their text embeddings.

    A family's embedding of a word is the mean of unit embeddings over its templates, as `vision.encode_text` makes it;
    whatever length they come with, cosines are used.

    Parameters
    ----------
    words : sequence of str
        At least one.
    embeddings : Tensor
        `(families, words, d)`, one layer per family of templates; `(words, d)` is one family.
    families : sequence of str
        Their names.
    """

    words: Sequence[str]
    embeddings: Tensor = field(repr=False)
    families: Sequence[str] = ("plain",)

    def __post_init__(self) -> None:
        if isinstance(self.words, str) or len(self.words) == 0:
            raise ValueError(
                f"words={self.words!r} must be a list of at least one word: an empty vocabulary names nothing"
            )
        embeddings = self.embeddings[None] if self.embeddings.ndim == 2 else self.embeddings
        check_array("embeddings", embeddings, (len(self.families), len(self.words), "d"))
        object.__setattr__(self, "words", tuple(self.words))
        object.__setattr__(self, "families", tuple(self.families))
        object.__setattr__(self, "embeddings", unit_norm(embeddings, dim=-1))


@dataclass(frozen=True)
class Names:
    """The best word of each concept, and where it was found.

    Parameters
    ----------
    words : tuple of str
        Concepts without a vector are called `NAMELESS`.
    scores : Tensor
        `(d,)` cosines.
    vocabulary, family, entry : Tensor
        `(d,)` int64: numbers of the vocabulary, its family and its word; −1 for the nameless.
    """

    words: tuple[str, ...]
    scores: Tensor
    vocabulary: Tensor
    family: Tensor
    entry: Tensor

    def __getitem__(self, concept: int) -> str:
        return self.words[concept]


def concept_vectors(
    W_dec: Tensor,
    b_dec: Tensor,
    *,
    method: str = "family",
    mean_codes: Tensor | None = None,
    strength: Tensor | None = None,
    tau: float = 0.75,
    scale: float | None = None,
) -> Tensor:
    """A unit vector per concept to look up in a vocabulary.

    Parameters
    ----------
    W_dec : Tensor
        The decoder's rows `(d_sae, d)`.
    b_dec : Tensor
        Its bias `(d,)`.
    method : str
        "family": u = D̃ · [D̃ > τ] · f̄, with D̃_ii = 1, brought to `scale` times the mean length of f̄, then decoded: the
        concept and those it implies ("child enforced" in the authors' code). "family_binary": the same with 0/1
        weights. "own": the concept's own code only. "decoder_bias": its decoder row plus the bias, and "decoder": the
        row alone (these two need nothing else).
    mean_codes : Tensor, optional
        f̄ `(d_sae, d_sae)`, `TopPatches.mean_codes()`.
    strength : Tensor, optional
        D̃ `(d_sae, d_sae)`, `Relations.conditional()`; the families' only.
    tau : float
        Threshold τ of what is implied.
    scale : float, optional
        By default the authors' 1.33, and 1 for "family_binary".

    Returns
    -------
    Tensor
        `(d_sae, d)`; zero for concepts that never fired.

    Raises
    ------
    ValueError
        An unknown method, or one without the tables it needs.
    """
    check_choice("method", method, NAMING_METHODS)
    check_array("W_dec", W_dec, ("d_sae", "d"))
    check_array("b_dec", b_dec, (W_dec.shape[1],))
    if method.startswith("decoder"):
        return unit_norm(W_dec + b_dec if method == "decoder_bias" else W_dec, dim=1)
    d = len(W_dec)
    mean_codes = _given("mean_codes", mean_codes, d, method).to(W_dec)
    weight = torch.eye(d, dtype=W_dec.dtype, device=W_dec.device)
    if method != "own":
        strength = _given("strength", strength, d, method).to(W_dec)
        implied = implications(strength, tau=tau)
        weight = weight + (implied if method == "family_binary" else strength * implied)
    scale = _SCALE[method] if scale is None else scale
    check_range("scale", scale, 0)
    alive = mean_codes.diagonal() > 0
    length = mean_codes[alive].norm(dim=1).mean() if bool(alive.any()) else 1.0
    codes = unit_norm(weight * mean_codes, dim=1) * scale * length
    return unit_norm(codes @ W_dec + b_dec, dim=1) * alive[:, None]


def name_concepts(vectors: Tensor, vocabularies: Vocabulary | Sequence[Vocabulary]) -> Names:
    """The nearest entry of all vocabularies and families to each concept's vector, by cosine.

    Parameters
    ----------
    vectors : Tensor
        `(d_sae, d)`, `concept_vectors`; concepts whose vector is zero stay nameless.
    vocabularies : Vocabulary or sequence of Vocabulary
        At least one, with embeddings as wide as the vectors.

    Returns
    -------
    Names
        Of d_sae concepts.

    Raises
    ------
    ValueError
        No vocabulary, or embeddings of another width.
    """
    check_array("vectors", vectors, ("d_sae", "d"))
    given = [vocabularies] if isinstance(vocabularies, Vocabulary) else list(vocabularies)
    if not given:
        raise ValueError("vocabularies is empty; at least one is needed")
    n, width = vectors.shape
    best = vectors.new_full((n,), -torch.inf)
    where = torch.full((3, n), -1, dtype=torch.long, device=vectors.device)
    unit = unit_norm(vectors, dim=1)
    for number, vocabulary in enumerate(given):
        if vocabulary.embeddings.shape[2] != width:
            raise ValueError(
                f"vocabularies: embeddings of vocabulary {number} are {vocabulary.embeddings.shape[2]} wide; "
                f"vectors are {width} wide"
            )
        for family, embeddings in enumerate(vocabulary.embeddings.to(unit)):
            score, entry = _nearest(unit, embeddings)
            better = score > best
            best = torch.where(better, score, best)
            here = torch.stack([torch.full_like(entry, number), torch.full_like(entry, family), entry])
            where = torch.where(better, here, where)
    nameless = vectors.norm(dim=1) == 0
    best, where = best.masked_fill(nameless, 0.0), where.masked_fill(nameless, -1)
    words = tuple(given[v].words[e] if v >= 0 else NAMELESS for v, _, e in where.T.tolist())
    return Names(words, best, *where)


def _nearest(unit: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Largest cosine and its entry, (n,) each, some entries of the vocabulary at a time."""
    size = max(1, _CHUNK // max(1, len(unit)))
    found = [(unit @ part.T).max(1) for part in embeddings.split(size)]
    scores = torch.stack([f.values for f in found])
    part = scores.argmax(0)
    entries = torch.stack([f.indices for f in found]).gather(0, part[None])[0] + part * size
    return scores.amax(0), entries


def _given(name: str, value: Tensor | None, d: int, method: str) -> Tensor:
    if value is None:
        raise ValueError(f"method={method!r} needs {name}, ({d}, {d}); only the decoder methods do without")
    check_array(name, value, (d, d))
    return value
