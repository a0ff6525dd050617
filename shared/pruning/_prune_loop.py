"""From scores to sparse networks: exact masks, schedules, weights that stay zero in training, train–prune–rewind."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shared._checks import check_choice, check_finite, check_keys, check_range, check_shape
from shared.nets import StackedNet
from shared.pruning._pruners import weight_scores
from shared.pruning._units import parameter_of

SCHEDULES = ("one-shot", "exponential", "linear", "gradual")
WEIGHT_SCOPES = ("global", "layer")
ON_EMPTY = ("refuse", "warn", "allow")


def sparsity_schedule(final: float, steps: int, *, kind: str = "exponential", start: float = 1.0) -> list[float]:
    """The share of weights kept after each pruning step, down to `final`.

    Parameters
    ----------
    final : share kept at the end, in (0, 1].
    steps : number of pruning steps.
    kind : "exponential", `start (final/start)^(i/n)`, each step takes the same share of what is left (multi-shot);
        "linear"; "gradual", the cubic of Zhu & Gupta 2018, eq. 1, which takes most at first; "one-shot", all at once.
    start : share kept before the first step.

    Returns
    -------
    `steps` shares, the last exactly `final`; "one-shot" repeats it.

    Raises
    ------
    ValueError
        Shares outside (0, 1], a start below the final share, no step.
    """
    check_choice("kind", kind, SCHEDULES)
    check_range("steps", steps, 1)
    check_range("start", start, 0.0, 1.0)
    if not 0 < final <= start:
        raise ValueError(f"final={final!r} must be a share of weights kept, in (0, {start}]")
    passed = [(i + 1) / steps for i in range(steps)]
    shares = {
        "one-shot": [final for _ in passed],
        "exponential": [start * (final / start) ** t for t in passed],
        "linear": [start + (final - start) * t for t in passed],
        "gradual": [final + (start - final) * (1 - t) ** 3 for t in passed],
    }[kind]
    return [*shares[:-1], final]


def weight_masks(
    scores: Mapping[str, Tensor],
    density: float,
    *,
    alive: Mapping[str, Tensor] | None = None,
    scope: str = "global",
    stacked: bool = False,
    empty: str = "warn",
) -> dict[str, Tensor]:
    """The `round(density n)` highest of n scores stay: `keep_masks` by selection, without sorting all of them.

    Parameters
    ----------
    scores : layer -> scores in the weight's shape (`weight_scores`).
    density : share kept of all weights scored, in [0, 1].
    alive : masks before; what they pruned doesn't come back, whatever its score.
    scope : "global", all layers compete; or "layer", each keeps this share of its own.
    stacked : scores of a `nets.StackedNet`: each network, on the first axis, competes for itself.
    empty : a layer (its weights, of any of the networks) that keeps nothing cuts the network in two: "refuse", "warn"
        or "allow" it.

    Returns
    -------
    Layer -> True where kept. Of equal scores the later stays.

    Raises
    ------
    ValueError
        Bad scores, density or masks; a layer left empty, by name.
    """
    check_choice("scope", scope, WEIGHT_SCOPES)
    check_choice("empty", empty, ON_EMPTY)
    check_range("density", density, 0.0, 1.0)
    if not scores:
        raise ValueError("scores is empty; at least one layer is needed")
    if alive is not None:
        check_keys("alive", alive, scores)
    for name, score in scores.items():
        check_finite(f"scores[{name!r}]", score)
        if alive is not None:
            check_shape(f"alive[{name!r}]", alive[name], score.shape)
    flat = {name: s.detach().reshape(len(s) if stacked else 1, -1) for name, s in scores.items()}
    flat = {name: s.float() if s.dtype in (torch.float16, torch.bfloat16) else s for name, s in flat.items()}
    if alive is not None:
        flat = {name: s.masked_fill(~alive[name].bool().reshape(s.shape), -torch.inf) for name, s in flat.items()}
    groups = [[name] for name in flat] if scope == "layer" else [list(flat)]
    kept = {name: torch.empty_like(s, dtype=torch.bool) for name, s in flat.items()}
    for group in groups:
        for row in range(len(flat[group[0]])):
            masks = _highest([flat[name][row] for name in group], density)
            for name, mask in zip(group, masks):
                kept[name][row] = mask
    _check_empty(kept, density, empty)
    return {name: kept[name].reshape(score.shape) for name, score in scores.items()}


def _highest(parts: list[Tensor], density: float) -> list[Tensor]:
    """The `round(density n)` highest of all parts together, or as many as aren't minus infinity."""
    count = round(density * sum(map(len, parts)))
    if count == 0:
        return [torch.zeros_like(part, dtype=torch.bool) for part in parts]
    bound = _kth_largest(parts, count)
    masks = [part >= bound for part in parts]
    surplus = sum(int(mask.count_nonzero()) for mask in masks) - count
    for part, mask in zip(parts, masks):
        if surplus > 0:  # equal scores: the earlier go
            level = (part == bound).nonzero()[:surplus, 0]
            mask[level] = False
            surplus -= len(level)
    return [mask & (part > -torch.inf) for mask, part in zip(masks, parts)] if bound == -torch.inf else masks


def _kth_largest(parts: list[Tensor], count: int) -> Tensor:
    """Exact; of many values only those are searched that a sample's quantiles bracket, a pass or two over the rest."""
    n, size = sum(map(len, parts)), 1 << 16
    if n > 4 * size:
        sample = torch.cat([part[:: n // size] for part in parts]).sort().values
        place, slack = round((1 - count / n) * len(sample)), 1 + 2 * math.isqrt(size)
        low = sample[place - slack] if place > slack else sample.new_tensor(-torch.inf)
        high = sample[place + slack] if place + slack < len(sample) else sample.new_tensor(torch.inf)
        left = count - sum(int((part > high).count_nonzero()) for part in parts)
        inside = torch.cat([part[(part >= low) & (part <= high)] for part in parts])
        if 0 < left <= len(inside):
            return inside.kthvalue(len(inside) - left + 1).values
    return torch.cat(parts).kthvalue(n - count + 1).values


def _check_empty(kept: Mapping[str, Tensor], density: float, empty: str) -> None:
    if empty == "allow":
        return
    found = [name for name, mask in kept.items() if not name.endswith(".bias") and not bool(mask.any(1).all())]
    if not found:
        return
    text = f"density={density:.4g} leaves no weight in {', '.join(map(repr, found))}, which cuts the network in two"
    if empty == "refuse":
        raise ValueError(f"{text}; keep more, use scope='layer', or allow it with empty='warn' or 'allow'")
    warnings.warn(text, stacklevel=3)


class _Hold(nn.Module):
    """Parametrisation by a mask: exactly zero where it is False, also of a value that isn't finite."""

    def __init__(self, gone: Tensor) -> None:
        super().__init__()
        self.register_buffer("gone", gone, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return weight.masked_fill(self.gone, 0)


@contextmanager
def train_masked(model: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """While it is open, pruned weights are exactly zero, whatever any optimiser does; on exit they stay zero.

    The mask is part of the forward pass (`torch.nn.utils.parametrize`), so a pruned weight has no gradient, and
    momentum, Adam's averages and weight decay move only a value that nobody sees. Parameters keep their identity: an
    optimiser of the model can be made before or inside.

    Parameters
    ----------
    model : any torch module that isn't compiled, or a `nets.StackedNet`.
    masks : layer -> True where kept, in the weight's shape; "layer.bias" for its bias.

    Yields
    ------
    The model.

    Raises
    ------
    ValueError
        An unknown layer, a mask of another shape or not of truth values, weights that are shared or computed.
    """
    users: dict[int, int] = {}
    for _, p in model.named_parameters(remove_duplicate=False):
        users[id(p)] = users.get(id(p), 0) + 1
    places = []
    for key, mask in masks.items():
        module, leaf = parameter_of(model, key)
        value = module._parameters.get(leaf)
        if value is None or users.get(id(value)) != 1:
            raise ValueError(f"masks[{key!r}]: this {leaf} is missing, shared, computed or already masked")
        check_shape(f"masks[{key!r}]", mask, value.shape)
        if mask.dtype != torch.bool:
            raise ValueError(f"masks[{key!r}] has dtype {mask.dtype}; expected torch.bool, True where kept")
        places.append((module, leaf, ~mask.to(value.device)))
    try:
        for module, leaf, gone in places:
            parametrize.register_parametrization(module, leaf, _Hold(gone), unsafe=True)
        yield model
    finally:
        for module, leaf, _ in places:
            if parametrize.is_parametrized(module, leaf):
                parametrize.remove_parametrizations(module, leaf, leave_parametrized=True)


def iterative_prune(
    model: nn.Module,
    layers: Iterable[str] | str,
    x: Any,
    target: Any,
    *,
    densities: Sequence[float],
    train: Callable[[nn.Module], Any] | None = None,
    method: str | Callable[[nn.Module], Mapping[str, Tensor]] = "magnitude",
    rewind: bool = True,
    scope: str = "global",
    empty: str = "warn",
    **options: Any,
) -> dict[str, Tensor]:
    """Train, score, prune, rewind, once per density; with magnitudes this is IMP (Frankle & Carbin 2019, section 1).

    Parameters
    ----------
    model : any torch module, changed in place, or a `nets.StackedNet`, whose networks are pruned each for itself.
    layers : as for `weight_scores`.
    x : what scores are computed on.
    target : as for `weight_scores`.
    densities : share of weights kept after each round (`sparsity_schedule`).
    train : trains the model in place, pruned weights held at zero; it makes its own optimiser, whose state is so
        rewound too. Without it only scores are computed anew, as SynFlow does.
    method : as for `weight_scores`, or a function of the model (its pruned weights held) that gives layer -> scores.
    rewind : put parameters and buffers back to where they started after each round; else go on from where they are.
    scope : as for `weight_masks`.
    empty : as for `weight_masks`.
    options : for `weight_scores`.

    Returns
    -------
    The masks. The model is left masked, at its first values with `rewind`.

    Raises
    ------
    ValueError
        As for `weight_scores` and `weight_masks`; no or growing densities.
    """
    shares = list(densities)
    if not shares or any(b > a for a, b in itertools.pairwise(shares)):
        raise ValueError(
            f"densities={shares} must be shares of weights kept, at least one and none above its forerunner"
        )
    layers = [layers] if isinstance(layers, str) else list(layers)
    stacked = isinstance(model, StackedNet)
    before = {name: value.detach().clone() for name, value in model.state_dict().items()} if rewind else {}
    masks: dict[str, Tensor] = {}
    for density in shares:
        with train_masked(model, masks):
            if train is not None:
                train(model)
            made = (
                method(model) if callable(method) else weight_scores(model, layers, x, target, method=method, **options)
            )
            scores = {name: score.detach().clone() for name, score in made.items()}
        masks = weight_masks(scores, density, alive=masks or None, scope=scope, stacked=stacked, empty=empty)
        if rewind:
            model.load_state_dict(before)
        apply_masks(model, masks)
    return masks


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """Set pruned weights to zero, for good (`masked` does so for a while, `train_masked` holds them there).

    Parameters
    ----------
    model : any torch module, changed in place.
    masks : layer -> True where kept, in the weight's shape; "layer.bias" for its bias.

    Returns
    -------
    The model.

    Raises
    ------
    ValueError
        As for `train_masked`.
    """
    with train_masked(model, masks):
        pass
    return model
