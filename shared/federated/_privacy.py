"""Differential privacy: noised label counts, and what central noise costs (Opacus' accountants)."""

from __future__ import annotations

import numpy as np

from shared._checks import check_choice, check_range
from shared.federated._select import check_counts

ACCOUNTANTS = ("rdp", "prv")
SENSITIVITY = {"add_remove": 1.0, "replace": 2.0}


def laplace_counts(
    counts: np.ndarray, epsilon: float, rng: np.random.Generator, *, adjacency: str = "add_remove"
) -> np.ndarray:
    r"""$\varepsilon$-differentially private label counts (K, C): Laplace noise of scale sensitivity / ε, cut at zero.

    One example more or less changes a histogram by 1 ("add_remove"); one exchanged for another by 2 ("replace").
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon={epsilon!r} must be positive")
    scale = SENSITIVITY[check_choice("adjacency", adjacency, SENSITIVITY)] / epsilon
    rows = np.stack(list(check_counts(counts).values()))
    return np.maximum(0.0, rows + rng.laplace(0.0, scale, rows.shape))


def privacy_spent(
    noise_multiplier: float, sample_rate: float, rounds: int, delta: float, *, accountant: str = "rdp"
) -> float:
    """The ε of `rounds` rounds of `DPFedAvg` in which each client takes part with probability `sample_rate`.

    By Opacus' accountants, "rdp" or "prv"; needs the optional package `opacus`. Infinite without noise.
    """
    check_range("noise_multiplier", noise_multiplier, 0)
    check_range("sample_rate", sample_rate, 0, 1)
    check_range("rounds", rounds, 1)
    check_range("delta", delta, 0, 1)
    check_choice("accountant", accountant, ACCOUNTANTS)
    if noise_multiplier == 0:
        return float("inf")
    accountants = _opacus("accountants")
    made = {"rdp": accountants.RDPAccountant, "prv": accountants.PRVAccountant}[accountant]()
    made.history = [(noise_multiplier, sample_rate, rounds)]
    return float(made.get_epsilon(delta=delta))


def noise_for(epsilon: float, sample_rate: float, rounds: int, delta: float, *, accountant: str = "rdp") -> float:
    """The noise multiplier with which `rounds` rounds cost `epsilon`; the inverse of `privacy_spent`."""
    if not epsilon > 0:
        raise ValueError(f"epsilon={epsilon!r} must be positive")
    check_choice("accountant", accountant, ACCOUNTANTS)
    utils = _opacus("accountants.utils")
    return float(
        utils.get_noise_multiplier(
            target_epsilon=epsilon, target_delta=delta, sample_rate=sample_rate, steps=rounds, accountant=accountant
        )
    )


def _opacus(module: str):
    import importlib

    try:
        return importlib.import_module(f"opacus.{module}")
    except ImportError as error:
        raise ImportError("the privacy accountants come from opacus: pip install opacus") from error
