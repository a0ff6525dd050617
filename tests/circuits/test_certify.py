"""Certificates against enumeration, closed forms and scipy's exact test."""

import itertools
import math
import re

import pytest
import torch
from scipy.stats import binomtest

from shared.circuits import (
    certified_radius,
    certify,
    deletion_masks,
    exact_votes,
    needed_votes,
    radius_threshold,
    smoothed_votes,
    top_share,
)

RADII = {  # threshold -> radii at these probabilities, worked out from 1.5 - threshold <= p ** r
    0.8: (0, 1, 1, 3, 6, 35),
    0.9: (1, 1, 2, 4, 9, 50),
    0.95: (1, 1, 2, 5, 11, 59),
}
PROBABILITIES = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def voters(scores: torch.Tensor, count: int):
    """Top `count` units by mean score of the items kept, the first of ties."""

    def vote(kept: torch.Tensor) -> torch.Tensor:
        order = scores[kept].mean(0).sort(descending=True, stable=True).indices
        return torch.zeros(scores.shape[1], dtype=torch.bool).scatter(0, order[:count], True)

    return vote


@pytest.mark.parametrize("threshold", RADII)
def test_radius_by_its_definition(threshold):
    for p, radius in zip(PROBABILITIES, RADII[threshold]):
        assert certified_radius(threshold, p) == radius
        assert p**radius >= 1.5 - threshold - 1e-9 > p ** (radius + 1) - 1e-9


def test_threshold_of_a_radius_gives_it_back():
    for p in PROBABILITIES:
        for radius in range(math.ceil(math.log(0.5) / math.log(p))):
            assert certified_radius(radius_threshold(radius, p), p) == radius
    with pytest.raises(ValueError, match="radius must be at most 1"):
        radius_threshold(2, 0.6)


def edits(items: list[int], pool: list[int]):
    """All data sets at distance 1: a deletion, a substitution or an insertion."""
    for i in range(len(items)):
        yield items[:i] + items[i + 1 :]
        yield from ([*items[:i], new, *items[i + 1 :]] for new in pool)
    for i in range(len(items) + 1):
        yield from ([*items[:i], new, *items[i:]] for new in pool)


@pytest.mark.parametrize("seed", range(3))
def test_no_edit_turns_a_certified_majority(seed):
    """Exact probabilities on all subsets, all single edits, outliers in the pool: the guarantee has no exception."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(12, 6, generator=generator) + torch.tensor([2.0, 1, 0.5, 0, 0, -1])
    scores[8:] *= 5  # what comes in may be far out
    own, pool = list(range(6)), list(range(6, 12))
    p = exact_votes(voters(scores[own], 2), 6, 0.6)
    certified_in, certified_out = p > 0.95, 1 - p > 0.95
    assert (certified_in | certified_out).any()
    for edited in edits(own, pool):
        other = exact_votes(voters(scores[edited], 2), len(edited), 0.6)
        assert (other[certified_in] >= 0.5).all()
        assert (other[certified_out] <= 0.5).all()


def test_the_guarantee_has_a_test_that_it_can_fail():
    """At a threshold of 0.6 no edit is covered, and one outlier turns what was above it."""
    scores = torch.tensor([[1.0, 0.0], [1, 0], [1, 0], [-9, 9]])
    p = exact_votes(voters(scores[:3], 1), 3, 0.6)
    assert p[0] > 0.6
    assert certified_radius(0.6, 0.6) == 0
    assert exact_votes(voters(scores, 1), 4, 0.6)[0] < 0.5


def test_sampled_votes_are_the_exact_ones_and_the_fast_path_the_slow_one():
    scores = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    masks = deletion_masks(4000, 8, 0.6, generator=torch.Generator().manual_seed(1))
    votes = smoothed_votes(voters(scores, 2), masks)
    fast = top_share({"layer": scores}, masks, 0.4)["layer"]
    assert torch.equal(fast.sum(0), votes)
    p = exact_votes(voters(scores, 2), 8, 0.6)
    assert ((votes / 4000 - p).abs() <= 4 * (p * (1 - p) / 4000).sqrt() + 1e-12).all()
    assert p.sum().item() == pytest.approx(2 * (1 - 0.6**8))  # two picks of every subset but the empty one


def test_all_subsets_have_probability_one():
    assert exact_votes(lambda kept: torch.tensor([True]), 5, 0.3).item() == pytest.approx(1 - 0.3**5)
    assert exact_votes(lambda kept: torch.tensor([0 in kept]), 5, 0.3).item() == pytest.approx(0.7)


@pytest.mark.parametrize(("n", "threshold", "alpha"), [(1000, 0.95, 1e-3), (1000, 0.95, 1e-3 / 3840), (300, 0.8, 0.05)])
def test_needed_votes_are_those_of_the_exact_test(n, threshold, alpha):
    k = needed_votes(n, threshold, alpha)
    assert binomtest(k, n, threshold, alternative="greater").pvalue <= alpha
    assert binomtest(k - 1, n, threshold, alternative="greater").pvalue > alpha
    low = binomtest(k, n).proportion_ci(1 - 2 * alpha, method="exact").low  # Clopper and Pearson's, one-sided
    assert low > threshold - 1e-9


def test_sides_are_tested_together():
    """At 0.5 a fair coin falls on either side: the level holds for both tails in one."""
    k = needed_votes(20, 0.5, 0.05)
    tail = sum(math.comb(20, i) for i in range(k, 21)) / 2**20
    assert 2 * tail <= 0.05 < 2 * (tail + math.comb(20, k - 1) / 2**20)


def test_states_and_corrections():
    votes = {"a": torch.tensor([1000, 971, 970, 500]), "b": torch.tensor([0, 29])}
    alone = certify(votes, 1000, correction="none")
    assert {k: v.tolist() for k, v in alone.state.items()} == {"a": [1, 1, -1, -1], "b": [0, 0]}
    both = certify(votes, 1000)
    assert {k: v.tolist() for k, v in both.state.items()} == {"a": [1, -1, -1, -1], "b": [0, -1]}
    assert both.radius == 1
    assert both.circuit["a"].tolist() == [True, False, False, False]
    holm = certify(torch.cat(list(votes.values())), 1000, correction="holm")
    assert (holm.state >= torch.cat(list(both.state.values()))).all()  # never less


def test_coverage():
    """Votes of components exactly at the threshold: a false certificate in at most alpha of the runs."""
    votes = torch.distributions.Binomial(200, torch.tensor(0.9))
    torch.manual_seed(0)
    wrong = [
        bool((certify(votes.sample((8,)).long(), 200, threshold=0.9, alpha=0.05).state >= 0).any()) for _ in range(400)
    ]
    assert sum(wrong) <= 400 * 0.05 + 4 * math.sqrt(400 * 0.05 * 0.95)


def test_order_of_the_data_and_everything_kept():
    scores = {"a": torch.randn(10, 4, generator=torch.Generator().manual_seed(3)).double()}
    masks = deletion_masks(50, 10, 0.5, generator=torch.Generator().manual_seed(4))
    order = torch.randperm(10, generator=torch.Generator().manual_seed(5))
    turned = top_share({"a": scores["a"][order]}, masks[:, order], 0.5)
    assert torch.equal(turned["a"], top_share(scores, masks, 0.5)["a"])
    assert torch.equal(top_share(scores, masks, 1.0)["a"], masks.any(1)[:, None].expand(-1, 4))
    assert not top_share(scores, torch.zeros(1, 10, dtype=torch.bool), 0.5)["a"].any()  # nothing votes for nothing


def test_a_share_of_items_is_deleted():
    masks = deletion_masks(2000, 20, 0.9, generator=torch.Generator().manual_seed(0))
    assert abs(masks.float().mean().item() - 0.1) < 4 * math.sqrt(0.09 / 40_000)


def test_bad_input_is_named():
    votes = torch.tensor([150, 200])
    with pytest.raises(ValueError, match=r"n=200 is too small .* takes 216 subsets, .* radius of 1"):
        certify(votes.repeat(32), 200)
    with pytest.raises(ValueError, match="radius of 0"):
        certify(torch.tensor([5]), 5)
    with pytest.raises(ValueError, match="votes must lie from 0 to n=100"):
        certify(votes, 100)
    with pytest.raises(ValueError, match="whole numbers"):
        certify(votes / 200, 200)
    with pytest.raises(ValueError, match="votes is empty"):
        certify({}, 200)
    with pytest.raises(ValueError, match="threshold must be from"):
        certify(votes, 200, threshold=1.0)
    with pytest.raises(ValueError, match="p_delete must be above 0"):
        certify(votes, 200, p_delete=1.0)
    with pytest.raises(ValueError, match="n_items"):
        exact_votes(lambda kept: torch.ones(1, dtype=torch.bool), 17, 0.5)
    with pytest.raises(ValueError, match="algorithm must answer with a bool tensor"):
        smoothed_votes(lambda kept: torch.ones(3), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="same components"):
        smoothed_votes(
            lambda kept: torch.ones(len(kept), dtype=torch.bool), torch.tensor([[True, False], [True, True]])
        )
    with pytest.raises(ValueError, match="keeps no item"):
        smoothed_votes(lambda kept: torch.ones(3, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="masks must be bool"):
        top_share({"a": torch.ones(4, 2)}, torch.ones(2, 4), 0.5)
    with pytest.raises(ValueError, match="share must be above 0"):
        top_share({"a": torch.ones(4, 2)}, torch.ones(2, 4, dtype=torch.bool), 0)
    with pytest.raises(ValueError, match=r"scores\['a'\]"):
        top_share({"a": torch.ones(3, 2)}, torch.ones(2, 4, dtype=torch.bool), 0.5)


@pytest.mark.parametrize("empty", [False, True], ids=["votes for nothing", "votes for all"])
def test_pairs_of_edits_at_radius_two(empty):
    """p_delete 0.8 and threshold 0.9 cover two edits: every pair of substitutions from a small pool.

    So few items are kept that many subsets are empty; where these vote for all, components can be certified inside.
    """
    scores = torch.randn(9, 5, generator=torch.Generator().manual_seed(1)) + torch.tensor([3.0, 0, 0, 0, -3])
    scores[6:] *= 4

    def probabilities(items: list[int]) -> torch.Tensor:
        return exact_votes(voters(scores[items], 2), 6, 0.8) + empty * 0.8**6

    p = probabilities(list(range(6)))
    inside, outside = p > 0.9, 1 - p > 0.9
    assert certified_radius(0.9, 0.8) == 2
    assert (inside if empty else outside).any()
    for places in itertools.combinations(range(6), 2):
        for new in itertools.product(range(6, 9), repeat=2):
            edited = list(range(6))
            edited[places[0]], edited[places[1]] = new
            other = probabilities(edited)
            assert (other[inside] >= 0.5).all()
            assert (other[outside] <= 0.5).all()


@pytest.mark.parametrize("n", [7, 20, 90, 200])
@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.95])
def test_what_the_error_advises_works(n, threshold):
    """The number of subsets that it names is the least, and its threshold can be shown."""
    try:
        certify(torch.full((8,), n), n, threshold=threshold)
    except ValueError as error:
        least = int(re.search(r"takes (\d+) subsets", str(error))[1])
        assert (certify(torch.full((8,), least), least, threshold=threshold).state == 1).all()
        with pytest.raises(ValueError, match="too small"):
            certify(torch.full((8,), least - 1), least - 1, threshold=threshold)
        if possible := re.search(r"at most (0\.\d+)", str(error)):
            assert (certify(torch.full((8,), n), n, threshold=float(possible[1])).state == 1).all()


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1])
def test_a_level_that_is_none(alpha):
    with pytest.raises(ValueError, match="alpha must be above 0 and below 1"):
        certify(torch.tensor([5, 5]), 10, threshold=0.5, alpha=alpha)
