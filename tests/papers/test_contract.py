"""Every paper in the repository keeps the contract: its card, its notebooks as stored, its paper.yml."""

import pytest

from shared.compendium import known_papers
from shared.compendium.contract import problems

# Landed before notebooks had to be read in twenty minutes and claims were counted; this set only shrinks.
LONG: set[str] = set()


@pytest.mark.parametrize("slug", known_papers())
def test_keeps_the_contract(slug):
    assert problems(slug, twenty_minutes=slug not in LONG) == []


@pytest.mark.parametrize("slug", sorted(LONG))
def test_a_paper_that_keeps_it_leaves_the_list(slug):
    assert problems(slug) != problems(slug, twenty_minutes=False), f"take {slug} out of LONG"
