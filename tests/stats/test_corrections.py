"""Corrections for multiple tests, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from shared.stats import adjust_p_values

P = np.array([0.01, 0.04, 0.03, 0.005, 0.5])


def test_by_hand():
    assert np.allclose(adjust_p_values(P), [0.04, 0.09, 0.09, 0.025, 0.5])
    assert np.allclose(adjust_p_values(P, method="bonferroni"), [0.05, 0.2, 0.15, 0.025, 1.0])


def test_fdr_is_scipys():
    values = np.random.default_rng(0).random(50)
    assert np.allclose(adjust_p_values(values, method="fdr"), false_discovery_control(values))


@pytest.mark.parametrize("method", ["holm", "bonferroni", "fdr"])
def test_one_test_and_order(method):
    assert adjust_p_values([0.3], method=method).tolist() == [0.3]
    shuffled = np.random.default_rng(0).permutation(5)
    assert np.allclose(adjust_p_values(P[shuffled], method=method), adjust_p_values(P, method=method)[shuffled])


def test_bounds_on_false_findings():
    """Under the null Holm errs at all in at most 5 % of families."""
    families = np.random.default_rng(0).random((2000, 10))
    wrong = np.mean([(adjust_p_values(family) < 0.05).any() for family in families])
    assert wrong < 0.06
