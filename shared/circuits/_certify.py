"""Certified circuits (Anani et al. 2026): components whose vote no few edits of the data set can turn.

A discovery algorithm is run on many random subsets of its data; each component is voted in or out. Deleting at random
also protects against insertions and substitutions: where all edited items happen to be deleted, which has probability
`p_delete ** radius`, the algorithm sees the same subset with and without the edit (Huang et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from shared._checks import check_array, check_choice, check_range, wide
from shared.stats import adjust_p_values

CORRECTIONS = ("bonferroni", "holm", "none")
MOST_ITEMS = 16  # 65,536 subsets


@dataclass(frozen=True)
class Certificate:
    """What is certified about each component.

    Attributes
    ----------
    state : component -> int8, 1 in the circuit, 0 outside, -1 abstained; a tensor, or layer -> tensor as the votes.
    radius : edits of the data set (insertions, deletions, substitutions) that turn no certified majority.
    threshold : share of votes that was tested for.
    """

    state: Tensor | dict[str, Tensor]
    radius: int
    threshold: float

    @property
    def circuit(self) -> Tensor | dict[str, Tensor]:
        """Bool, True where certified inside; abstentions are left out."""
        if isinstance(self.state, Mapping):
            return {name: state == 1 for name, state in self.state.items()}
        return self.state == 1


def certified_radius(threshold: float, p_delete: float) -> int:
    """Largest number of edits under which a majority above `threshold` stays one, `floor(log(1.5 - t) / log(p))`.

    Parameters
    ----------
    threshold : share of votes above which a component is certified, from 0.5 to below 1.
    p_delete : probability with which each item is deleted, above 0 and below 1.

    Returns
    -------
    Edits of the data set, by Levenshtein's distance; 0 guarantees nothing.

    Raises
    ------
    ValueError
        A threshold or probability out of range.

    Examples
    --------
    >>> certified_radius(0.95, 0.6), certified_radius(0.95, 0.99)
    (1, 59)
    """
    _check_rates(threshold, p_delete)
    return math.floor(math.log(1.5 - threshold) / math.log(p_delete) + 1e-12)


def radius_threshold(radius: int, p_delete: float) -> float:
    """Least share of votes that certifies a radius, `1.5 - p ** r`.

    Parameters
    ----------
    radius : edits, 0 or more.
    p_delete : as for `certified_radius`.

    Returns
    -------
    The threshold, from 0.5 to below 1.

    Raises
    ------
    ValueError
        A radius that no share of votes certifies at this probability; the largest one is named.
    """
    check_range("radius", radius, 0)
    _check_rates(0.5, p_delete)
    most = math.ceil(math.log(0.5) / math.log(p_delete)) - 1
    if radius > most:
        raise ValueError(
            f"radius must be at most {most} where items are deleted with p_delete={p_delete}; got {radius}"
        )
    return 1.5 - p_delete**radius


def deletion_masks(n_masks: int, n_items: int, p_delete: float, *, generator: torch.Generator) -> Tensor:
    """Random subsets of a data set: each item is kept with probability `1 - p_delete`, independently.

    Parameters
    ----------
    n_masks : subsets.
    n_items : items of the data set.
    p_delete : as for `certified_radius`.
    generator : source of randomness.

    Returns
    -------
    bool `(n_masks, n_items)`, True where kept.

    Raises
    ------
    ValueError
        A count below 1; a probability out of range.
    """
    check_range("n_masks", n_masks, 1)
    check_range("n_items", n_items, 1)
    _check_rates(0.5, p_delete)
    return torch.rand(n_masks, n_items, generator=generator, device=generator.device) >= p_delete


def smoothed_votes(algorithm: Callable[[Tensor], Tensor], masks: Tensor) -> Tensor:
    """How many subsets vote each component into the circuit; any algorithm, run once for each subset.

    Parameters
    ----------
    algorithm : from the indices of the items kept, LongTensor `(k,)`, to bool `(components,)`. It is to be
        deterministic and not called with an empty subset, which votes for nothing.
    masks : bool `(n_masks, n_items)`, of `deletion_masks`.

    Returns
    -------
    LongTensor `(components,)`.

    Raises
    ------
    ValueError
        Masks that aren't bool or have no row with an item; an answer that isn't bool of one length.
    """
    _check_masks(masks)
    filled = masks[masks.any(1)]
    if not len(filled):
        raise ValueError("masks keeps no item in any row")
    votes = [_vote(algorithm, mask) for mask in filled]
    if len({v.shape for v in votes}) > 1:
        raise ValueError(f"algorithm must always answer for the same components; got {sorted({len(v) for v in votes})}")
    return torch.stack(votes).sum(0)


def exact_votes(algorithm: Callable[[Tensor], Tensor], n_items: int, p_delete: float) -> Tensor:
    """Probability with which each component is voted in, over all `2 ** n_items` subsets.

    Parameters
    ----------
    algorithm : as for `smoothed_votes`.
    n_items : items of the data set, from 1 to 16.
    p_delete : as for `certified_radius`.

    Returns
    -------
    float64 `(components,)`.

    Raises
    ------
    ValueError
        Too many items to count all subsets; a probability out of range.
    """
    check_range("n_items", n_items, 1, MOST_ITEMS)
    _check_rates(0.5, p_delete)
    masks = (torch.arange(1, 2**n_items)[:, None] >> torch.arange(n_items)) % 2 == 1
    kept = wide(masks.sum(1))
    weight = (1 - p_delete) ** kept * p_delete ** (n_items - kept)
    return weight @ wide(torch.stack([_vote(algorithm, mask) for mask in masks]))


def top_share(scores: Mapping[str, Tensor], masks: Tensor, share: float) -> dict[str, Tensor]:
    """The discovery algorithm "highest mean score in each layer" on many subsets, as one product of matrices.

    Parameters
    ----------
    scores : layer -> float `(n_items, units)`, each item's score of each unit.
    masks : bool `(n_masks, n_items)`.
    share : of each layer's units that is kept, above 0 and at most 1; rounded, at least one unit. Of units that tie the
        first is kept.

    Returns
    -------
    Layer -> bool `(n_masks, units)`; nothing for an empty subset. Its sum over the first axis are votes.

    Raises
    ------
    ValueError
        No layer, scores of another number of items than the masks, not finite; a share out of range.
    """
    _check_masks(masks)
    check_range("share", share, 0, 1)
    if share == 0:
        raise ValueError("share must be above 0; got 0")
    if not scores:
        raise ValueError("scores is empty; give layer -> (items, units)")
    kept = masks.sum(1)
    found = {}
    for name, values in scores.items():
        check_array(f"scores[{name!r}]", values, (masks.shape[1], "units"))
        means = masks.to(values) @ values / kept.clamp(min=1).to(values)[:, None]
        count = max(1, round(share * values.shape[1]))
        best = means.sort(dim=1, descending=True, stable=True).indices[:, :count]
        found[name] = torch.zeros_like(means, dtype=torch.bool).scatter_(1, best, True) & (kept > 0)[:, None]
    return found


def certify(
    votes: Tensor | Mapping[str, Tensor],
    n: int,
    *,
    p_delete: float = 0.6,
    threshold: float = 0.95,
    alpha: float = 0.001,
    correction: str = "bonferroni",
) -> Certificate:
    """Components whose share of votes is above `threshold` on one side, with all errors together below `alpha`.

    A component is tested by the binomial tails beyond its votes at the threshold, both sides together, since the side
    is chosen by the same votes (Clopper & Pearson 1934). What is certified is the *majority*: after up to `radius`
    edits of the data set the component still has at least half of the votes on its side. It may then fall below the
    threshold, and another run may abstain.

    Parameters
    ----------
    votes : for the component, of n subsets; integers `(components,)`, or layer -> `(units,)`, corrected together.
    n : subsets that voted.
    p_delete : with which the subsets were drawn; the authors' 0.6.
    threshold : as for `certified_radius`; the authors' 0.95.
    alpha : probability that any certificate is wrong.
    correction : "bonferroni" (the authors'), "holm", or "none", which bounds each error alone.

    Returns
    -------
    `Certificate`, with a state shaped as the votes.

    Raises
    ------
    ValueError
        Votes outside 0 to n; n too small for any certificate (the least n and the largest radius are named).
    """
    check_choice("correction", correction, CORRECTIONS)
    check_range("n", n, 1)
    _check_rates(threshold, p_delete)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be above 0 and below 1; got {alpha}")
    layers = votes if isinstance(votes, Mapping) else {"": votes}
    if not layers:
        raise ValueError("votes is empty; give layer -> (units,)")
    for name, counts in layers.items():
        _check_votes(f"votes[{name!r}]" if name else "votes", counts, n)
    counts = torch.cat([c.cpu() for c in layers.values()]).numpy()
    _check_enough(n, len(counts) if correction != "none" else 1, threshold, p_delete, alpha)
    sure = np.maximum(counts, n - counts)
    p_values = _p_values(sure, n, threshold)
    adjusted = p_values if correction == "none" else adjust_p_values(p_values, method=correction)
    state = np.where(adjusted <= alpha, (2 * counts > n).astype(np.int8), np.int8(-1))
    parts = torch.from_numpy(state).split([len(c) for c in layers.values()])
    found = dict(zip(layers, parts)) if isinstance(votes, Mapping) else parts[0]
    return Certificate(found, certified_radius(threshold, p_delete), threshold)


def needed_votes(n: int, threshold: float, alpha: float) -> int:
    """Least votes of n that show a share above the threshold at level `alpha`.

    Parameters
    ----------
    n : subsets that vote.
    threshold : as for `certified_radius`.
    alpha : level of the one test; divide it by the number of components for Bonferroni's correction.

    Returns
    -------
    Votes; n + 1 where not even all are enough.

    Raises
    ------
    ValueError
        A count, threshold or level out of range.

    Examples
    --------
    >>> needed_votes(1000, 0.95, 0.001), needed_votes(200, 0.95, 0.001 / 64)
    (971, 201)
    """
    check_range("n", n, 1)
    _check_rates(threshold, 0.5)
    check_range("alpha", alpha, 0, 1)
    counts = np.arange(n // 2 + 1, n + 1)
    enough = counts[_p_values(counts, n, threshold) <= alpha]
    return int(enough[0]) if len(enough) else n + 1


def _p_values(counts: np.ndarray, n: int, threshold: float) -> np.ndarray:
    """Probability of so many votes or more on *some* side where neither has a share above the threshold, at most."""
    tails = binom.sf(counts - 1, n, threshold) + binom.cdf(n - counts, n, threshold)
    return np.where(2 * counts > n, np.minimum(tails, 1), 1.0)


def _vote(algorithm: Callable[[Tensor], Tensor], mask: Tensor) -> Tensor:
    vote = algorithm(mask.nonzero()[:, 0])
    if not isinstance(vote, Tensor) or vote.dtype != torch.bool or vote.ndim != 1:
        got = f"{vote.dtype} {tuple(vote.shape)}" if isinstance(vote, Tensor) else type(vote).__name__
        raise ValueError(f"algorithm must answer with a bool tensor (components,); got {got}")
    return vote


def _check_rates(threshold: float, p_delete: float) -> None:
    if not 0.5 <= threshold < 1:
        raise ValueError(f"threshold must be from 0.5 to below 1; got {threshold}")
    if not 0 < p_delete < 1:
        raise ValueError(f"p_delete must be above 0 and below 1; got {p_delete}")


def _check_masks(masks: Tensor) -> None:
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool or masks.ndim != 2 or 0 in masks.shape:
        got = f"{masks.dtype} {tuple(masks.shape)}" if isinstance(masks, Tensor) else type(masks).__name__
        raise ValueError(f"masks must be bool (n_masks, n_items); got {got}")


def _check_votes(argument: str, counts: Tensor, n: int) -> None:
    if not isinstance(counts, Tensor) or counts.dtype.is_floating_point or counts.dtype == torch.bool:
        raise ValueError(f"{argument} must hold whole numbers of votes; got {getattr(counts, 'dtype', type(counts))}")
    if counts.ndim != 1 or not len(counts):
        raise ValueError(f"{argument} must have shape (components,); got {tuple(counts.shape)}")
    if int(counts.min()) < 0 or int(counts.max()) > n:
        raise ValueError(f"{argument} must lie from 0 to n={n}; got {int(counts.min())} to {int(counts.max())}")


def _check_enough(n: int, tests: int, threshold: float, p_delete: float, alpha: float) -> None:
    """All n votes must be able to show the threshold: threshold ** n <= alpha / tests, but for the other tail."""
    level = alpha / tests
    if _p_values(np.array([n]), n, threshold)[0] <= level:
        return
    least = math.ceil(math.log(level) / math.log(threshold))
    while _p_values(np.array([least]), least, threshold)[0] > level:  # the other tail takes one more, near a half
        least += 1
    text = f"n={n} is too small to certify any of {tests} components at threshold {threshold}: it takes {least} subsets"
    possible = math.floor(1000 * level ** (1 / n)) / 1000
    if possible >= 0.5 and _p_values(np.array([n]), n, possible)[0] <= level:
        reach = certified_radius(possible, p_delete)
        text += f", or a threshold of at most {possible:.3f}, which certifies a radius of {reach}"
        text += f" at p_delete={p_delete}"
    else:
        text += "; so few show no threshold at all, a radius of 0"
    raise ValueError(text)
