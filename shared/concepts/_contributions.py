"""Decisions taken apart into concepts: open-vocabulary segmentation and a linear probe on max-pooled codes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

from shared._checks import check_array, check_range
from shared.stats import unit_norm


def class_scores(features: Tensor, text: Tensor, *, temperature: float = 100.0) -> Tensor:
    """Softmax over classes of `temperature` times the cosine of each place and class.

    Parameters
    ----------
    features : Tensor
        `(…, d)` patches, raw or decoded.
    text : Tensor
        `(C, d)` class embeddings of length one.
    temperature : float
        Factor of the cosines.

    Returns
    -------
    Tensor
        `(…, C)`.
    """
    _check_text(text)
    check_array("features", features, (*[None] * max(1, features.ndim - 1), text.shape[1]))
    check_range("temperature", temperature, 0)
    return (temperature * unit_norm(features, dim=-1) @ text.T).softmax(-1)


def segment_by_text(features: Tensor, text: Tensor, size: tuple[int, int], *, temperature: float = 100.0) -> Tensor:
    """Class of every pixel: `class_scores` of patches, stretched bilinearly to the image.

    Parameters
    ----------
    features : Tensor
        `(B, H, W, d)` patches.
    text : Tensor
        `(C, d)` class embeddings of length one.
    size : tuple of int
        Height and width of the image.
    temperature : float
        Factor of the cosines.

    Returns
    -------
    Tensor
        `(B, *size)` int64.
    """
    check_array("features", features, ("B", "H", "W", "d"))
    scores = class_scores(features, text, temperature=temperature).movedim(-1, 1)
    return interpolate(scores, tuple(size), mode="bilinear", align_corners=False).argmax(1)


@dataclass(frozen=True)
class ScoreSplit:
    """Cosines of decoded places and classes as sums over concepts: Σ_i f_i⟨W_i, t_c⟩ / n + ⟨b, t_c⟩ / n.

    Parameters
    ----------
    codes : Tensor
        `(…, d_sae)`.
    weight : Tensor
        `(d_sae, C)`, ⟨W_i, t_c⟩.
    bias : Tensor
        `(C,)`, ⟨b, t_c⟩.
    norm : Tensor
        `(…,)`, the length n of the decoded vector, which divides all parts of a place alike.
    """

    codes: Tensor = field(repr=False)
    weight: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    norm: Tensor = field(repr=False)

    def scores(self) -> Tensor:
        """The cosines (…, C), summed from their parts."""
        return (self.codes @ self.weight + self.bias) / self.norm[..., None]

    def of_class(self, number: int) -> Tensor:
        """Contribution of each concept to a class's cosine at each place.

        Parameters
        ----------
        number : int
            Of the class.

        Returns
        -------
        Tensor
            `(…, d_sae)`.
        """
        check_range("number", number, 0, len(self.bias) - 1)
        return self.codes * self.weight[:, number] / self.norm[..., None]

    def of_segments(self, labels: Tensor) -> Tensor:
        """Contributions summed over the places called each class.

        Parameters
        ----------
        labels : Tensor
            `(…,)` int64, classes by place; those outside 0 … C−1 are in no segment.

        Returns
        -------
        Tensor
            `(C, d_sae + 1)`; the last column is the bias's.
        """
        if tuple(labels.shape) != tuple(self.norm.shape):
            raise ValueError(f"labels has shape {tuple(labels.shape)}; the split's places are {tuple(self.norm.shape)}")
        C = len(self.bias)
        named = torch.where((labels >= 0) & (labels < C), labels, C).flatten()
        member = one_hot(named, C + 1)[:, :C].to(self.codes) / self.norm.flatten()[:, None]
        concepts = (member.T @ self.codes.flatten(0, -2)) * self.weight.T
        return torch.cat([concepts, (member.sum(0) * self.bias)[:, None]], 1)


def split_scores(codes: Tensor, W_dec: Tensor, b_dec: Tensor, text: Tensor) -> ScoreSplit:
    """Take the cosines of decoded codes and class embeddings apart, exactly.

    Parameters
    ----------
    codes : Tensor
        `(…, d_sae)`.
    W_dec : Tensor
        The decoder's rows `(d_sae, d)`.
    b_dec : Tensor
        Its bias `(d,)`.
    text : Tensor
        `(C, d)` class embeddings of length one.

    Returns
    -------
    ScoreSplit
        Parts by concept and class.
    """
    _check_text(text)
    check_array("W_dec", W_dec, ("d_sae", text.shape[1]))
    check_array("b_dec", b_dec, (text.shape[1],))
    check_array("codes", codes, (*[None] * max(1, codes.ndim - 1), len(W_dec)))
    norm = (codes @ W_dec + b_dec).norm(dim=-1).clamp_min(1e-12)
    return ScoreSplit(codes, W_dec @ text.T, text @ b_dec, norm)


def max_pool(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Each concept's largest activation in an image, and the patch where it is.

    Parameters
    ----------
    codes : Tensor
        `(B, H, W, d_sae)`.

    Returns
    -------
    tuple of Tensor
        Activations and patches, counted by row, `(B, d_sae)` each.
    """
    check_array("codes", codes, ("B", "H", "W", "d_sae"))
    found = codes.flatten(1, 2).max(1)
    return found.values, found.indices


def probe_contributions(pooled: Tensor, weight: Tensor) -> Tensor:
    """w_ci f_i: what each concept adds to each class's logit of a linear probe.

    Parameters
    ----------
    pooled : Tensor
        `(B, d_sae)`, `max_pool`.
    weight : Tensor
        `(C, d_sae)`, the probe's.

    Returns
    -------
    Tensor
        `(B, C, d_sae)`; its sum over concepts plus the probe's bias is the logit.
    """
    check_array("pooled", pooled, ("B", "d_sae"))
    check_array("weight", weight, ("C", pooled.shape[1]))
    return pooled[:, None] * weight


def _check_text(text: Tensor) -> None:
    check_array("text", text, ("C", "d"))
    lengths = text.norm(dim=1)
    if not torch.allclose(lengths, torch.ones_like(lengths), atol=1e-3):
        raise ValueError(
            f"text has rows of length {lengths.min():.3g} to {lengths.max():.3g}; expected 1 (encode_text)"
        )
