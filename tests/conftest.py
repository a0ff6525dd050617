"""Fixtures that several folders of tests use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkout import Checkout


# Its path has a space, as a user's may.
@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    made = Checkout(tmp_path / "a checkout")
    yield made
    made.close()


@pytest.fixture(scope="module")
def module_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """One for all tests of a module."""
    made = Checkout(tmp_path_factory.mktemp("module") / "a checkout")
    yield made
    made.close()
