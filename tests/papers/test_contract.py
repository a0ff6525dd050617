"""Every paper in the repository keeps the contract: its card, its notebooks as stored, its paper.yml."""

import pytest

from shared.compendium import known_papers
from shared.compendium.contract import problems


@pytest.mark.parametrize("slug", known_papers())
def test_keeps_the_contract(slug):
    assert problems(slug) == []
