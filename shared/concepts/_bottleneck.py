"""Concept bottlenecks made of text vectors alone, without training, and components that are searched by text."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from shared._checks import check_array, check_range, wide


class ConceptBottleneck:
    """Concept scores c = Z f and class scores c (Z Uᵀ), for unit vectors Z of concepts and U of classes (U-F²-CBM).

    The prediction is f Zᵀ Z Uᵀ: that of f Uᵀ with the Gram matrix of the bank in between. It is kept as it is where
    that matrix is a multiple of the identity on the space of the classes, which `whiten` brings about.

    Parameters
    ----------
    concepts : Tensor, shape (M, m)
        Text vectors of the bank; scaled to length one.
    classes : Tensor, shape (K, m)
        Text vectors of the class names; scaled to length one.
    whiten : bool
        Put the pseudo-inverse of the Gram matrix Zᵀ Z before the classes.

    Attributes
    ----------
    weights : Tensor, shape (M, K)
        From concepts to classes.

    Examples
    --------
    >>> bank = ConceptBottleneck(torch.eye(3), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]]))
    >>> bank.logits(torch.tensor([[0.0, 0.0, 2.0]])).round(decimals=3).tolist()
    [[0.0, 1.600000023841858]]
    """

    def __init__(self, concepts: Tensor, classes: Tensor, *, whiten: bool = False) -> None:
        check_array("concepts", concepts, ("M", None))
        check_array("classes", classes, ("K", concepts.shape[1]))
        for argument, vectors in (("concepts", concepts), ("classes", classes)):
            if bool((vectors.norm(dim=1) == 0).any()):
                raise ValueError(f"{argument} has rows of length zero; every text needs a direction")
        self.concepts, self.classes = normalize(concepts, dim=1), normalize(classes, dim=1)
        towards = self.classes.T
        if whiten:
            bank = wide(self.concepts)
            towards = (torch.linalg.pinv(bank.T @ bank, hermitian=True) @ wide(towards)).to(towards)
        self.weights = self.concepts @ towards

    def activations(self, vectors: Tensor) -> Tensor:
        """Scores of all concepts.

        Parameters
        ----------
        vectors : Tensor, shape (N, m)
            Features in the text encoder's space.

        Returns
        -------
        Tensor, shape (N, M)
        """
        check_array("vectors", vectors, ("N", self.concepts.shape[1]))
        return vectors.to(self.concepts) @ self.concepts.T

    def logits(self, vectors: Tensor, *, without: Sequence[int] = ()) -> Tensor:
        """Class scores through the concepts.

        Parameters
        ----------
        vectors : Tensor, shape (N, m)
        without : sequence of int
            Concepts whose scores are set to zero first.

        Returns
        -------
        Tensor, shape (N, K)
        """
        scores = self.activations(vectors)
        if len(without):
            check_range("without", min(without), low=0)
            check_range("without", max(without), high=scores.shape[1] - 1)
            scores = scores.index_fill(1, torch.as_tensor(list(without), device=scores.device), 0)
        return scores @ self.weights

    def contributions(self, vectors: Tensor, target: Tensor) -> Tensor:
        """What every concept adds to the score of a class; rows sum to `logits`' entry.

        Parameters
        ----------
        vectors : Tensor, shape (N, m)
        target : Tensor, shape (N,)
            A class per row, int64.

        Returns
        -------
        Tensor, shape (N, M)
        """
        scores = self.activations(vectors)
        check_array("target", target, (len(vectors),))
        check_range("target", int(target.min()), low=0)
        check_range("target", int(target.max()), high=self.weights.shape[1] - 1)
        return scores * self.weights.T[target]


class ComponentIndex:
    """Components of a network searched by text: the exact nearest by cosine, from one product of matrices and a top-k.

    For 10⁵ components that is faster than a tree or a graph of neighbours would have to be; nothing is approximated.

    Parameters
    ----------
    vectors : Tensor, shape (N, m)
        One per component (or image), in the text encoder's space. Rows of zeros are components that never fired: they
        are listed in `silent` and never found.

    Attributes
    ----------
    silent : Tensor of int64
        Components without a direction.

    Examples
    --------
    >>> index = ComponentIndex(torch.tensor([[3.0, 0.0], [0.0, 0.0], [1.0, 1.0]]))
    >>> index.query(torch.tensor([[1.0, 0.0]]), top=2)[1].tolist(), index.silent.tolist()
    ([[0, 2]], [1])
    """

    def __init__(self, vectors: Tensor) -> None:
        check_array("vectors", vectors, ("N", None))
        alive = vectors.norm(dim=1) > 0
        self._rows, self.silent = alive.nonzero().flatten(), (~alive).nonzero().flatten()
        if not len(self._rows):
            raise ValueError("vectors holds zeros only; no component ever fired")
        self._units = normalize(vectors[self._rows].detach().float(), dim=1)

    def query(self, texts: Tensor, *, top: int = 10) -> tuple[Tensor, Tensor]:
        """The components nearest to each text, best first.

        Parameters
        ----------
        texts : Tensor, shape (Q, m)
        top : int
            How many of each.

        Returns
        -------
        cosines : Tensor, shape (Q, top)
        components : Tensor of int64, shape (Q, top)
        """
        check_array("texts", texts, ("Q", self._units.shape[1]))
        check_range("top", top, low=1, high=len(self._rows))
        found = (normalize(texts.float(), dim=1) @ self._units.T).topk(top, dim=1)
        return found.values, self._rows[found.indices]


def filter_concepts(words: Sequence[str], class_names: Sequence[str]) -> list[str]:
    """The words that name no class: those that share no word with any name, in singular or plural, are kept in order.

    Parameters
    ----------
    words : sequence of str
        Candidates for a bank; repeated ones are kept once.
    class_names : sequence of str

    Returns
    -------
    list of str

    Examples
    --------
    >>> filter_concepts(["fins", "goldfishes", "shark", "fins", "orange water"], ["goldfish", "great white sharks"])
    ['fins', 'orange water']
    """
    named = {stem for name in class_names for stem in _stems(name)}
    return [word for word in dict.fromkeys(words) if not _stems(word) & named]


_PLURALS = ((r"ies$", "y"), (r"(?<=ss|ch|sh)es$", ""), (r"(?<=x|z)es$", ""), (r"(?<=[^su])s$", ""))


def _stems(text: str) -> set[str]:
    """Lower-case words without a plural's ending."""
    return {_stem(word) for word in re.findall(r"[^\W\d_]+", text.lower())}


def _stem(word: str) -> str:
    for ending, instead in _PLURALS:
        found, changed = re.subn(ending, instead, word)
        if changed:
            return found
    return word
