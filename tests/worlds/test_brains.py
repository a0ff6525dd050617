"""Simulated R2* of brains: the groups differ where they should and nowhere else."""

import pytest
import torch

from shared.worlds import BRAIN_REGIONS, brain_cohort
from shared.zoo import load_data

LABELS = load_data("brain-atlas").arrays["labels"]
PUTAMEN, HIPPOCAMPUS = (BRAIN_REGIONS.index(f"{name} L") for name in ("putamen", "hippocampus"))


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def means(world, region):
    inside = world.regions == region
    return (world.volumes[:, 0] * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)


def test_patients_differ_where_they_should():
    world = brain_cohort(LABELS, n=80, effects={"putamen": 6.0}, patients=0.5, generator=draws())
    assert world.y.sum() == 40
    gaps = [float(means(world, r)[world.y == 1].mean() - means(world, r)[world.y == 0].mean()) for r in (37, 40)]
    assert BRAIN_REGIONS[37] == "putamen L"
    assert BRAIN_REGIONS[40] == "hippocampus L"
    assert gaps[0] > 3
    assert abs(gaps[1]) < 1


def test_without_an_effect_groups_are_alike():
    world = brain_cohort(LABELS, n=80, effects={}, patients=0.5, generator=draws())
    gap = means(world, PUTAMEN)[world.y == 1].mean() - means(world, PUTAMEN)[world.y == 0].mean()
    assert abs(float(gap)) < 1


def test_noise_stays_in_the_brain_and_draws_repeat():
    first, second = (brain_cohort(LABELS, n=3, effects={}, generator=draws(4)) for _ in range(2))
    assert torch.equal(first.volumes, second.volumes)
    assert first.volumes.min() >= 0
    assert (first.volumes[:, 0][first.regions == 0] == 0).all()
    assert first.volumes.shape == (3, 1, 28, 34, 28)


def test_left_is_left():
    """The atlas's left regions have the smaller first coordinate, in every brain; front is larger than back."""
    for brain in LABELS:
        for name in ("putamen", "caudate", "hippocampus"):
            left, right = ((brain == BRAIN_REGIONS.index(f"{name} {s}")).nonzero()[:, 0].float().mean() for s in "LR")
            assert left < right
        front, back = (
            (brain == BRAIN_REGIONS.index(f"{name} L")).nonzero()[:, 1].float().mean()
            for name in ("superiorfrontal", "cuneus")
        )
        assert front > back


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"labels": LABELS[0]}, "labels"),
        ({"labels": LABELS.float()}, "labels"),
        ({"names": ("outside",)}, "labels"),
        ({"effects": {"puttamen": 1.0}}, "effects"),
        ({"n": 1}, "n"),
        ({"patients": 1.5}, "patients"),
        ({"noise": -1.0}, "noise"),
    ],
    ids=["rank", "floats", "names", "region", "n", "patients", "noise"],
)
def test_bad_input(bad, named):
    good = {"labels": LABELS, "n": 2, "effects": {"putamen": 1.0}, "generator": draws()}
    with pytest.raises(ValueError, match=f"^{named}"):
        brain_cohort(**{**good, **bad})
