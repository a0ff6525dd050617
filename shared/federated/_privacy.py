"""Differential privacy: noised label counts, and what central noise costs (Opacus' accountants)."""

from __future__ import annotations

import numpy as np

from shared._checks import check_choice, check_range
from shared.federated._select import check_counts

ACCOUNTANTS = ("rdp", "prv")
SENSITIVITY = {"add_remove": 1.0, "replace": 2.0}


def laplace_counts(
    counts: np.ndarray, epsilon: float, *, generator: np.random.Generator, adjacency: str = "add_remove"
) -> np.ndarray:
    r"""$\varepsilon$-differentially private label counts (K, C): Laplace noise of scale sensitivity / ε, cut at zero.

    Parameters
    ----------
    counts : (K, C).
    epsilon : the price ε, > 0.
    generator : where chance comes from.
    adjacency : one example more or less changes a histogram by 1 ("add_remove"); one exchanged for another by 2
        ("replace").

    Returns
    -------
    Noised counts (K, C), >= 0.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon={epsilon!r} must be positive")
    scale = SENSITIVITY[check_choice("adjacency", adjacency, SENSITIVITY)] / epsilon
    rows = np.stack(list(check_counts(counts).values()))
    return np.maximum(0.0, rows + generator.laplace(0.0, scale, rows.shape))


def privacy_spent(
    noise_multiplier: float, sample_rate: float, rounds: int, delta: float, *, accountant: str = "rdp"
) -> float:
    """The ε of `rounds` rounds of `DPFedAvg`.

    Parameters
    ----------
    noise_multiplier : z of `DPFedAvg`, >= 0.
    sample_rate : probability that a client takes part in a round.
    rounds : how many.
    delta : the δ of (ε, δ)-differential privacy.
    accountant : Opacus' "rdp" or "prv"; needs the optional package `opacus`.

    Returns
    -------
    ε; infinite without noise.
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
    """The noise multiplier with which `rounds` rounds cost `epsilon`; the inverse of `privacy_spent`.

    Parameters
    ----------
    epsilon : the price ε, > 0.
    sample_rate : probability that a client takes part in a round.
    rounds : how many.
    delta : the δ of (ε, δ)-differential privacy.
    accountant : Opacus' "rdp" or "prv"; needs the optional package `opacus`.

    Returns
    -------
    z of `DPFedAvg`.
    """
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
