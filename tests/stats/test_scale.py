"""Standardised columns."""

import pytest
import torch

from shared.stats import standardised


def test_the_first_sets_the_scale():
    x, other = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4 + 7
    scaled, rest = standardised(x, other)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(scaled.std(0), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(rest * x.std(0) + x.mean(0), other)
    torch.testing.assert_close(standardised(x[:, 0])[0], scaled[:, 0])


def test_a_constant_column_stays_finite_and_columns_must_match():
    (scaled,) = standardised(torch.ones(5, 2))
    assert torch.equal(scaled, torch.zeros(5, 2))
    with pytest.raises(ValueError, match="others has shape"):
        standardised(torch.rand(5, 2), torch.rand(5, 3))
