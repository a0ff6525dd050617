"""Search over a few categorical choices: at random, or guided by a Gaussian process."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from shared._checks import check_choice, check_range

STRATEGIES = ("gp", "random")


def search_choices(
    objective: Callable[[dict[str, Any]], float],
    space: Mapping[str, Sequence[Any]],
    *,
    trials: int = 16,
    initial: int = 6,
    strategy: str = "gp",
    random_state: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Look for the choice with the largest objective; no choice is tried twice.

    "gp" starts with `initial` random choices; then a Gaussian process (Matérn 5/2 on one-hot choices, with noise) is
    fitted to what was seen, and the choice of the largest expected improvement comes next (Jones et al. 1998). The same
    `random_state` gives both strategies the same first choices.

    Parameters
    ----------
    objective : from a choice (name -> option) to a number; called once per trial.
    space : name -> options.
    trials : how many choices to try; all of them if there are fewer.
    initial : random choices before the process takes over.
    strategy : "gp" or "random".
    random_state : draws the order of random choices.

    Returns
    -------
    One row per trial in order: the options by name, `value`, and `best`, the largest value so far.

    Raises
    ------
    ValueError
        An empty space, counts below 1, an unknown strategy, an objective that isn't finite.
    """
    check_choice("strategy", strategy, STRATEGIES)
    check_range("trials", trials, 1)
    check_range("initial", initial, 1)
    choices = [dict(zip(space, options)) for options in itertools.product(*space.values())]
    if not space or not choices:
        raise ValueError(f"space has no choices: {dict(space)}")
    codes = _one_hot(space)
    left = np.random.default_rng(random_state).permutation(len(choices)).tolist()
    tried: list[int] = []
    values: list[float] = []
    while left and len(tried) < trials:
        guided = strategy == "gp" and len(tried) >= initial and len(set(values)) > 1
        at = left[int(np.argmax(_expected_improvement(codes[tried], values, codes[left])))] if guided else left[0]
        left.remove(at)
        tried.append(at)
        values.append(float(objective(choices[at])))
        if not np.isfinite(values[-1]):
            raise ValueError(f"objective gives {values[-1]} for {choices[at]}; expected a finite number")
    frame = pd.DataFrame([choices[at] for at in tried])
    return frame.assign(value=values, best=np.maximum.accumulate(values))


def _one_hot(space: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """`(choices, options of all names)`, in the product's order; two choices differ by sqrt(2) per name."""
    blocks = [np.eye(len(options)) for options in space.values()]
    return np.array([np.concatenate(rows) for rows in itertools.product(*blocks)])


def _expected_improvement(seen: np.ndarray, values: list[float], candidates: np.ndarray) -> np.ndarray:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    y = np.asarray(values)
    y = (y - y.mean()) / y.std()
    kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(1.5, (0.5, 20.0), nu=2.5) + WhiteKernel(0.05, (1e-3, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # length scales at their bounds are fine
        process = GaussianProcessRegressor(kernel).fit(seen, y)
    mean, deviation = process.predict(candidates, return_std=True)
    gain, deviation = mean - y.max(), np.maximum(deviation, 1e-9)
    return gain * norm.cdf(gain / deviation) + deviation * norm.pdf(gain / deviation)
