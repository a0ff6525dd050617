"""Attacks on the non-concept set: exact where they claim to be, within their limits."""

from itertools import combinations

import pytest
import torch

from shared import probes


def test_selection_is_the_exact_optimum():
    rng = torch.Generator().manual_seed(0)
    candidates, concept, g = (
        torch.randn(10, 4, generator=rng),
        torch.randn(4, generator=rng),
        torch.randn(4, generator=rng),
    )
    value = {rows: float(g @ (concept - candidates[list(rows)].mean(0))) for rows in combinations(range(10), 4)}
    for sign, best in ((1, max(value.values())), (-1, min(value.values()))):
        chosen = probes.select_for_tcav(candidates, g, 4, sign=sign)
        assert value[tuple(sorted(chosen.tolist()))] == pytest.approx(best)


def test_selection_keeps_quotas():
    rng = torch.Generator().manual_seed(1)
    candidates, g = torch.randn(60, 4, generator=rng), torch.randn(4, generator=rng)
    strata = torch.randint(0, 3, (60,), generator=rng)
    quotas = torch.tensor([5, 2, 3])
    chosen = probes.select_for_tcav(candidates, g, 10, strata=strata, quotas=quotas)
    assert torch.equal(torch.bincount(strata[chosen], minlength=3), quotas)
    first = (candidates @ g)[strata == 0].sort().values[:5]
    assert torch.equal((candidates @ g)[chosen[strata[chosen] == 0]].sort().values, first)


def test_herding_reaches_the_point():
    rng = torch.Generator().manual_seed(2)
    candidates = torch.randn(400, 5, generator=rng)
    point = torch.tensor([0.5, -0.3, 0, 0.2, 0])
    chosen = probes.herd_to_point(candidates, point, 60)
    assert len(set(chosen.tolist())) == 60
    assert (candidates[chosen].mean(0) - point).norm() < 0.05
    assert (candidates[:60].mean(0) - point).norm() > 0.3


def test_pixel_attack_stays_in_its_ball_and_pushes(net):
    model, x = net
    g = torch.randn(6, generator=torch.Generator().manual_seed(0))
    for sign in (1, -1):
        changed = probes.pgd_shift(model, "3", x, g, sign=sign, epsilon=0.03)
        assert float((changed - x).abs().max()) <= 0.03 + 1e-6
        assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
        before, after = (probes.activations(model, "3", images) @ g for images in (x, changed))
        assert (sign * (before - after) > 0).all()
    assert torch.equal(probes.pgd_shift(model, "3", x, g, epsilon=0.0), x)


def test_bad_input():
    candidates = torch.randn(20, 4)
    with pytest.raises(ValueError, match="2 n = 22"):
        probes.select_for_tcav(candidates, torch.ones(4), 11)
    with pytest.raises(ValueError, match="sum to n=4"):
        probes.select_for_tcav(candidates, torch.ones(4), 4, strata=torch.zeros(20), quotas=torch.tensor([3]))
    with pytest.raises(ValueError, match="of group 1"):
        probes.select_for_tcav(candidates, torch.ones(4), 4, strata=torch.zeros(20), quotas=torch.tensor([1, 3]))
    with pytest.raises(ValueError, match="sign"):
        probes.select_for_tcav(candidates, torch.ones(4), 4, sign=0)
    with pytest.raises(ValueError, match="point"):
        probes.herd_to_point(candidates, torch.ones(3), 4)
