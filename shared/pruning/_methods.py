"""Scores of units by the name of their method, so that a comparison is a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from shared._checks import check_choice, check_shape
from shared.hooks import count_rows
from shared.pruning._scores import activation_scores, gradient_scores, layer_shares, random_scores, relevance_scores
from shared.pruning._weights import magnitude_scores, unit_sums, wanda_scores


def _magnitude(model: nn.Module, layers: Any, x: Any, target: Any, power: float = 1, **options: Any) -> Any:
    return unit_sums({name: w**power for name, w in magnitude_scores(model, layers, **options).items()})


def _wanda(model: nn.Module, layers: Any, x: Any, target: Any, power: float = 1, **options: Any) -> Any:
    return unit_sums({name: w**power for name, w in wanda_scores(model, layers, x, **options).items()})


METHODS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "relevance": relevance_scores,
    "gradient": gradient_scores,
    "activation": lambda model, layers, x, target, **options: activation_scores(model, layers, x, **options),
    "magnitude": _magnitude,
    "wanda": _wanda,
    "random": lambda model, layers, x, target, **options: random_scores(model, layers, **options),
}


def unit_scores(
    model: nn.Module,
    layers: Iterable[str] | str,
    x: Any,
    target: Tensor,
    *,
    method: str = "relevance",
    shares: bool = False,
    **options: Any,
) -> dict[str, Tensor]:
    """Scores of units by one of the room's methods.

    Parameters
    ----------
    model : any torch module in eval mode.
    layers : as for `relevance_scores`.
    x : what the model takes, B rows.
    target : classes `(B,)`; methods without a target leave them out.
    method : "relevance", "gradient", "activation", "magnitude", "wanda" or "random"; weights' scores are summed over
        each unit's row, as |w|^power.
    shares : give each layer's shares (`layer_shares`).
    options : the method's own (`composite`, `absolute`, `steps`, `times_activation`, `power`, `merge_norm`,
        `generator`, …).

    Returns
    -------
    Layer -> `(units,)`.

    Raises
    ------
    ValueError
        An unknown method, and what the method refuses.
    """
    check_choice("method", method, METHODS)
    check_shape("target", target, (count_rows(x),))
    scores = METHODS[method](model, layers, x, target, **options)
    return layer_shares(scores) if shares else scores
