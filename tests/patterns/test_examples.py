"""The worked examples in the docstrings of the dense spots give what they say."""

import doctest

import pytest

from shared.patterns import _baselines, _candidates, _space, diffnaps


@pytest.mark.parametrize("module", [_baselines, _candidates, _space, diffnaps])
def test_worked_examples(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
