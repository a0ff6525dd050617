"""Which inputs of a unit work together: contributions of its strongest tokens in groups, and shares that follow.

No labels and no training. A reconstruction from the abstract of ELUDe (Bağcı et al. 2026) and its predecessor (Hesse et
al. 2025); the shares are what `split_by_shares` takes, so that sub-units add up to the unit whatever is found here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from torch import Tensor

from shared._checks import check_array, check_choice, check_range, wide
from shared.circuits._rewire import source_sets

SPLITS = ("soft", "hard")


@dataclass(frozen=True, eq=False)
class ContributionGroups:
    """A unit's strongest tokens in K groups.

    Attributes
    ----------
    labels : Tensor
        Shape (n,): group of each token; −1 where nothing contributed positively.
    means : Tensor
        Shape (K, inputs): mean positive contribution of every input to the tokens of a group.
    silhouette : float
        Mean cosine silhouette, 0 for a single group.
    """

    labels: Tensor
    means: Tensor
    silhouette: float


def top_contributions(weight: Tensor, activations: Tensor, *, n: int = 150, per_text: int = 3) -> Tensor:
    """What each input gives to a unit on the tokens where the unit is strongest.

    Parameters
    ----------
    weight : (inputs,), the unit's row of a linear layer.
    activations : (N, T, inputs), what goes into the layer: N texts of T tokens, or images of patches.
    n : tokens to take, at most.
    per_text : of one text, at most.

    Returns
    -------
    Weight × activation, (n, inputs), the strongest token first.

    Raises
    ------
    ValueError
        Other shapes; NaN; no tokens asked for.
    """
    check_array("weight", weight, ("inputs",))
    check_array("activations", activations, ("N", "T", len(weight)))
    check_range("n", n, 1)
    check_range("per_text", per_text, 1)
    strength = activations.detach() @ weight.detach()
    best, places = strength.topk(min(per_text, strength.shape[1]), dim=1)
    flat = best.flatten().topk(min(n, best.numel())).indices
    return activations.detach()[flat // best.shape[1], places.flatten()[flat]] * weight.detach()


def contribution_groups(
    contributions: Tensor, *, k_max: int = 4, min_silhouette: float = 0.0, random_state: int = 0
) -> ContributionGroups:
    """K-means of the directions of positive contributions, with the K of the largest mean silhouette.

    Parameters
    ----------
    contributions : (n, inputs), as `top_contributions` gives them.
    k_max : K is 2 to this, or 1.
    min_silhouette : K is 1, and the unit stays whole, unless some K > 1 exceeds this.
    random_state : of k-means, which starts four times.

    Returns
    -------
    Groups, in the order in which they appear first.

    Raises
    ------
    ValueError
        Fewer tokens than two for each of `k_max` groups; NaN.
    """
    check_array("contributions", contributions, ("n", "inputs"))
    check_range("k_max", k_max, 1)
    check_range("min_silhouette", min_silhouette, -1, 1)
    if len(contributions) < 2 * k_max:
        raise ValueError(f"contributions has {len(contributions)} tokens; k_max={k_max} groups need {2 * k_max}")
    positive = wide(contributions.detach()).clamp_min(0)
    used = positive.norm(dim=1) > 0
    labels = torch.full((len(positive),), -1, device=positive.device)
    found, score = torch.zeros(int(used.sum()), dtype=torch.long), 0.0
    if int(used.sum()) >= 2 * k_max and k_max > 1:
        found, score = _best_groups(positive[used], k_max, min_silhouette, random_state)
    labels[used] = found.to(labels)
    means = torch.stack([positive[labels == k].mean(0) for k in range(int(labels.max()) + 1)] or [positive.mean(0)])
    return ContributionGroups(labels, means.to(contributions.dtype), score)


def _best_groups(positive: Tensor, k_max: int, bar: float, random_state: int) -> tuple[Tensor, float]:
    direction = positive / positive.norm(dim=1, keepdim=True)
    gram = (direction @ direction.T).cpu()
    values, vectors = torch.linalg.eigh(gram)
    points = (vectors * values.clamp_min(0).sqrt()).numpy()  # the same distances in n dimensions instead of all inputs
    distance = (1 - gram).clamp_min(0).fill_diagonal_(0).numpy()
    best, score = torch.zeros(len(positive), dtype=torch.long), bar
    for k in range(2, min(k_max, len(torch.unique(gram.round(decimals=9), dim=0))) + 1):
        labels = KMeans(k, n_init=4, random_state=random_state).fit(points).labels_
        value = float(silhouette_score(distance, labels, metric="precomputed"))
        if value > score:
            best, score = torch.as_tensor(labels, dtype=torch.long), value
    if int(best.max()) == 0:
        return best, 0.0
    first = [int((best == k).nonzero()[0]) for k in range(int(best.max()) + 1)]
    return torch.tensor(first).argsort().argsort()[best], score


def group_shares(means: Tensor, *, split: str = "soft", ratio: float = 0.5, floor: float = 0.1) -> Tensor:
    """Every input dealt out by what it gives to each group; columns sum to 1.

    Parameters
    ----------
    means : (K, inputs), not negative, as `ContributionGroups.means`.
    split : "soft", in proportion to the means; "hard", all to one group by `source_sets`, else equally to all.
    ratio : of "hard", see `source_sets`.
    floor : of "soft": added to every mean, in units of the mean over all, so that inputs that give nearly nothing are
        shared equally.

    Returns
    -------
    (K, inputs), for `split_by_shares`.

    Raises
    ------
    ValueError
        Negative or NaN means; another split; a floor that isn't positive.
    """
    check_array("means", means, ("K", "inputs"))
    check_choice("split", split, SPLITS)
    check_range("floor", floor, 1e-12)
    if float(means.min()) < 0:
        raise ValueError(f"means must not be negative; got {float(means.min()):.3g}")
    values, k = wide(means.detach()), len(means)
    if k == 1 or float(values.max()) == 0:
        return torch.full_like(means.detach(), 1 / k)
    if split == "hard":
        own = source_sets(values, ratio=ratio)
        return torch.where(own.any(0), own.to(values), values.new_tensor(1 / k)).to(means)
    lifted = values + floor * values.mean()
    return (lifted / lifted.sum(0)).to(means)


def permuted_shares(shares: Tensor, strength: Tensor, *, generator: torch.Generator, block: int = 10) -> Tensor:
    """A control: the same shares, handed to other inputs that contribute about as much.

    Parameters
    ----------
    shares : (K, inputs).
    strength : (inputs,), what an input gives to the unit; columns are permuted among inputs of neighbouring rank.
    generator : on the CPU.
    block : so many ranks are permuted among each other.

    Returns
    -------
    (K, inputs).

    Raises
    ------
    ValueError
        Other shapes; NaN; a block of less than two.
    """
    check_array("shares", shares, ("K", "inputs"))
    check_array("strength", strength, (shares.shape[1],))
    check_range("block", block, 2)
    order = strength.detach().argsort(descending=True)
    moved = torch.cat(
        [part[torch.randperm(len(part), generator=generator).to(part.device)] for part in order.split(block)]
    )
    out = torch.empty_like(shares)
    out[:, order] = shares.detach()[:, moved]
    return out


def random_shares(strength: Tensor, k: int, *, generator: torch.Generator, n_inputs: int = 60) -> Tensor:
    """A control: the inputs that contribute most are dealt out at random, one owner each; all others are shared.

    Parameters
    ----------
    strength : (inputs,), what an input gives to the unit.
    k : sub-units; each owns as many inputs as the others, but for one.
    generator : on the CPU.
    n_inputs : how many inputs get an owner, at most.

    Returns
    -------
    (k, inputs).

    Raises
    ------
    ValueError
        NaN; fewer inputs with an owner than sub-units.
    """
    check_array("strength", strength, ("inputs",))
    check_range("k", k, 1, len(strength))
    check_range("n_inputs", n_inputs, k)
    chosen = strength.detach().argsort(descending=True)[:n_inputs]
    owner = torch.arange(len(chosen)).remainder(k)[torch.randperm(len(chosen), generator=generator)]
    shares = torch.full((k, len(strength)), 1 / k, dtype=strength.dtype, device=strength.device)
    shares[:, chosen] = torch.nn.functional.one_hot(owner, k).T.to(shares)
    return shares
