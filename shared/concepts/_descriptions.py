"""Scores of features' descriptions: clarity, responsiveness, purity, faithfulness (FADE, Puri et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_array, check_range, check_shape, wide
from shared.stats import auroc, average_precision

PERCENTILES = (0, 50, 75, 95, 100)


class Separation(NamedTuple):
    """How far positives lie apart from negatives, per feature; NaN where one of the two is missing.

    Attributes
    ----------
    gini : Tensor
        |2 AUROC − 1|: 0 for no order, 1 for a perfect one, whichever way.
    precision : Tensor
        Average precision; where positives lie below, of the negated activations.
    """

    gini: Tensor
    precision: Tensor


def separation(activations: Tensor, positive: Tensor, *, among: Tensor | None = None) -> Separation:
    """FADE's two measures of every column.

    Parameters
    ----------
    activations : Tensor
        `(n, k)`, one number per text and feature.
    positive : Tensor
        `(n, k)` bool: which texts are positives of a feature.
    among : Tensor, optional
        `(n, k)` bool: which texts count at all. By default all.

    Returns
    -------
    Separation
        Of k features, float64.
    """
    check_array("activations", activations, ("n", "k"))
    check_shape("positive", positive, activations.shape)
    if among is not None:
        check_shape("among", among, activations.shape)
    values, gini, precision = wide(activations), [], []
    for column in range(values.shape[1]):
        keep = slice(None) if among is None else among[:, column].bool()
        x, y = values[keep, column], positive[keep, column].bool()
        if not 0 < int(y.sum()) < len(y):
            gini.append(torch.nan)
            precision.append(torch.nan)
            continue
        area = float(auroc(x, y))
        gini.append(abs(2 * area - 1))
        precision.append(float(average_precision(x if area >= 0.5 else -x, y)))
    return Separation(*(torch.tensor(column, dtype=values.dtype) for column in (gini, precision)))


def clarity(natural: Tensor, synthetic: Tensor) -> Tensor:
    """Whether text written for a description drives its feature beyond ordinary text.

    Parameters
    ----------
    natural : Tensor
        `(n, k)` activations on ordinary texts, none left out.
    synthetic : Tensor
        `(m, k)` on texts written for each feature's description.

    Returns
    -------
    Tensor
        `(k,)`, |2 AUROC − 1|.
    """
    check_array("natural", natural, ("n", "k"))
    check_array("synthetic", synthetic, ("m", natural.shape[1]))
    positive = torch.zeros(len(natural) + len(synthetic), natural.shape[1], dtype=torch.bool)
    positive[len(natural) :] = True
    return separation(torch.cat([natural, synthetic.to(natural)]), positive.to(natural.device)).gini


def responsiveness_purity(activations: Tensor, ratings: Tensor) -> Separation:
    """Whether a feature fires on natural texts that show its concept (gini), and on little else (precision).

    Parameters
    ----------
    activations : Tensor
        `(n, k)`.
    ratings : Tensor
        `(n, k)`: 0 absent, 1 vague, 2 clear; vague and negative (unrated) ones don't count.

    Returns
    -------
    Separation
        Responsiveness and purity; NaN where no text is rated 2, or none 0. Purity depends on how many texts show the
        concept: compare it within one set of texts.
    """
    check_array("activations", activations, ("n", "k"))
    check_array("ratings", ratings, activations.shape)
    if not bool(((ratings <= 2) & (ratings == ratings.round() if ratings.is_floating_point() else True)).all()):
        raise ValueError("ratings must be 0, 1 or 2, or negative where there is none")
    return separation(activations, ratings == 2, among=(ratings == 0) | (ratings == 2))


def sample_by_activation(
    activations: Tensor, n: int, *, generator: np.random.Generator, top: float = 0.1
) -> np.ndarray:
    """Which texts to rate for one feature: as many from each stretch of its activations, the rest from the very top.

    Parameters
    ----------
    activations : Tensor
        `(N,)`.
    n : int
        How many; all texts if there are no more.
    generator : numpy.random.Generator
        Draws within the stretches (0–50, 50–75, 75–95, 95–100 % of the texts).
    top : float
        Share of the n that is meant for the strongest; they also get what short stretches leave.

    Returns
    -------
    array of int
        Rows, increasing, none twice: at most n, fewer where a strongest text had been drawn already.
    """
    check_array("activations", activations, ("N",))
    check_range("n", n, 1)
    check_range("top", top, 0.0, 1.0)
    if len(activations) <= n:
        return np.arange(len(activations))
    order = activations.detach().cpu().argsort(stable=True).numpy()
    ends = [int(p / 100 * len(order)) for p in PERCENTILES]
    each, drawn = int(n * (1 - top) // (len(ends) - 1)), []
    for low, high in pairwise(ends):
        drawn.append(generator.choice(order[low:high], min(each, high - low), replace=False))
    left = n - sum(map(len, drawn))
    return np.unique(np.concatenate([*drawn, order[len(order) - left :]]))


def faithfulness(rates: Mapping[float, float]) -> tuple[float, float]:
    """How much more often the model writes of the concept when the feature is turned up than when it is off.

    Parameters
    ----------
    rates : mapping of float to float
        Factor of the feature's activation -> share of continuations that show the concept; 0 (off) must be there.

    Returns
    -------
    tuple of float
        max(max_k r_k − r_0, 0) / (1 − r_0), and the factor that reaches it. 0 where r_0 is 1.

    Raises
    ------
    ValueError
        Without factor 0, or for shares beyond 0 and 1.
    """
    if 0 not in rates:
        raise ValueError(f"rates lacks factor 0, the feature switched off; it has {sorted(rates)}")
    for rate in rates.values():
        check_range("rates", rate, 0.0, 1.0)
    best = max(rates, key=lambda factor: rates[factor])
    gain = max(rates[best] - rates[0], 0.0)
    return (gain / (1 - rates[0]) if gain else 0.0), float(best)


def describe_by_tfidf(
    activations: Tensor, texts: Sequence[str], *, n_top: int = 20, n_words: int = 5, min_texts: int = 3
) -> list[str]:
    """A description of each feature: the words whose tf-idf is most raised in its strongest texts.

    Parameters
    ----------
    activations : Tensor
        `(n, k)`.
    texts : sequence of str
        n of them.
    n_top : int
        Strongest texts that are looked at.
    n_words : int
        Words of a description.
    min_texts : int
        Texts that a word must occur in, of all.

    Returns
    -------
    list of str
        Words joined by commas, k of them.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    check_array("activations", activations, (len(texts), "k"))
    check_range("n_top", n_top, 1, len(texts))
    check_range("n_words", n_words, 1)
    check_range("min_texts", min_texts, 1)
    vectorizer = TfidfVectorizer(
        stop_words="english", min_df=min_texts, sublinear_tf=True, token_pattern=r"[a-zA-Z]{3,}"
    )
    table = vectorizer.fit_transform(texts)
    words, usual = vectorizer.get_feature_names_out(), np.asarray(table.mean(0)).ravel()
    strongest = activations.detach().cpu().topk(n_top, dim=0).indices.T.numpy()
    raised = [np.asarray(table[rows].mean(0)).ravel() - usual for rows in strongest]
    return [", ".join(words[np.argsort(-one, kind="stable")[:n_words]]) for one in raised]
