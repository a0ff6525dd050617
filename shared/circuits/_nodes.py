"""Circuits of nodes: channels of chosen layers, what each is worth for each item, and the model without all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from shared._checks import check_array, check_choice, check_range, wide
from shared.hooks import (
    AxisFinder,
    batches,
    capture,
    count_rows,
    edit,
    find_module,
    refuse_training,
    run_model,
    take_rows,
)
from shared.lrp import Composite, attribute, channel_relevance

SCORES = ("relevance", "activation", "rank")


def channel_scores(
    model: nn.Module,
    layers: Iterable[str] | str,
    x: Any,
    target: Any = None,
    *,
    method: str = "relevance",
    composite: Composite | None = None,
    channel_axis: int | Mapping[str, int] | None = None,
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """Every item's score of every channel; circuits of a data set follow from their means.

    Parameters
    ----------
    model : any torch module in eval mode.
    layers : modules whose output has channels, such as a CNN's stages.
    x : what the model takes, B rows.
    target : for relevance, as for `shared.lrp.attribute`; None explains each row's largest logit.
    method : "relevance", summed over positions and signed; "activation", mean magnitude over positions; "rank", the
        rank of that among the layer's channels, from 0 to 1 for the largest.
    composite : rules of the relevance, as for `shared.lrp.attribute`; `Composite([])` is gradient × activation.
    channel_axis : axis of the channels, or layer -> axis, where modules don't tell.
    batch_size : rows in one pass.

    Returns
    -------
    Layer -> `(B, channels)`, detached.

    Raises
    ------
    ValueError
        No layers, an unknown one (the nearest are named) or method; a model in training mode.
    """
    check_choice("method", method, SCORES)
    names = _layers(model, layers)
    axes = _axes(model, names, channel_axis)
    refuse_training(model)
    count_rows(x)
    if method == "relevance":
        options = {"composite": composite, "record": names, "channel_axis": channel_axis, "batch_size": batch_size}
        latent = attribute(model, x, target, **options).latent
        found = {name: (latent[name], axes[name](latent[name])) for name in names}
        return {name: channel_relevance(r, channel_axis=axis, normalise=False) for name, (r, axis) in found.items()}
    means: dict[str, list[Tensor]] = {name: [] for name in names}
    for part in batches(x, batch_size):
        with torch.no_grad(), capture(model, names) as seen:
            run_model(model, part)
        for name in names:
            means[name].append(_by_channel(seen[name], axes[name](seen[name])).abs().mean(2))
    scores = {name: torch.cat(parts) for name, parts in means.items()}
    return scores if method == "activation" else {name: _ranks(values) for name, values in scores.items()}


@contextmanager
def only_channels(
    model: nn.Module,
    circuit: Mapping[str, Tensor],
    *,
    fill: Mapping[str, Tensor] | None = None,
    channel_axis: int | Mapping[str, int] | None = None,
) -> Iterator[nn.Module]:
    """Silence every channel outside the circuit while the context is open (sufficiency pruning of Anani et al. 2026).

    Parameters
    ----------
    model : any torch module.
    circuit : layer -> bool `(channels,)`, True where kept; or `(B, channels)`, each row's own. Other layers stay whole.
    fill : layer -> float `(channels,)`, what a silenced channel says instead, such as its mean; by default 0.
    channel_axis : as for `channel_scores`.

    Yields
    ------
    The model.

    Raises
    ------
    ValueError
        An unknown layer; a mask that isn't bool or of another length than the layer has channels.
    """
    for name, mask in circuit.items():
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.ndim not in (1, 2):
            got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(f"circuit[{name!r}] must be bool (channels,) or (B, channels); got {got}")
    axes = _axes(model, list(circuit), channel_axis)
    if fill is not None and set(fill) != set(circuit):
        raise ValueError(f"fill must have the layers of circuit, {sorted(circuit)}; got {sorted(fill)}")
    values = dict.fromkeys(circuit) if fill is None else fill
    with edit(model, {name: _keeper(name, mask, values[name], axes[name]) for name, mask in circuit.items()}):
        yield model


def circuit_logits(
    model: nn.Module,
    circuits: Mapping[str, Tensor],
    x: Any,
    *,
    fill: Mapping[str, Tensor] | None = None,
    channel_axis: int | Mapping[str, int] | None = None,
    batch_size: int = 256,
) -> Tensor:
    """Logits of every item under every circuit; many circuits share one forward pass.

    Parameters
    ----------
    model : any torch module in eval mode that gives logits `(B, C)`.
    circuits : layer -> bool `(M, channels)`, the channels that circuit m keeps.
    x : what the model takes, B rows.
    fill : as for `only_channels`.
    channel_axis : as for `channel_scores`.
    batch_size : pairs of an item and a circuit in one pass.

    Returns
    -------
    `(M, B, C)`.

    Raises
    ------
    ValueError
        No circuits, or layers with different numbers of them; a mask as `only_channels` refuses it.
    """
    counts = {name: len(mask) for name, mask in circuits.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise ValueError(f"circuits must hold as many rows for each layer, at least one; got {counts}")
    refuse_training(model)
    rows, m = count_rows(x), next(iter(counts.values()))
    check_range("batch_size", batch_size, 1)
    pairs = torch.cartesian_prod(torch.arange(m), torch.arange(rows)) if rows else torch.zeros(0, 2, dtype=torch.long)
    found = []
    for part in pairs.split(batch_size):
        kept = {name: mask[part[:, 0].to(mask.device)] for name, mask in circuits.items()}
        with torch.no_grad(), only_channels(model, kept, fill=fill, channel_axis=channel_axis):
            found.append(_logits(run_model(model, take_rows(x, part[:, 1]))))
    return torch.cat(found).unflatten(0, (m, rows))


def overlap(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Intersection over union of two circuits' channels; NaN where both are empty.

    Parameters
    ----------
    first : layer -> bool `(channels,)`.
    second : of the same layers and sizes.

    Returns
    -------
    Share in [0, 1], or NaN.

    Raises
    ------
    ValueError
        Circuits of other layers or sizes.
    """
    if {k: v.shape for k, v in first.items()} != {k: v.shape for k, v in second.items()}:
        raise ValueError(f"second must have the layers and sizes of first; got {list(second)} for {list(first)}")
    both = sum(int((first[name] & second[name]).sum()) for name in first)
    either = sum(int((first[name] | second[name]).sum()) for name in first)
    return both / either if either else float("nan")


def _axes(
    model: nn.Module, names: Iterable[str], channel_axis: int | Mapping[str, int] | None
) -> dict[str, AxisFinder]:
    """Where each layer's channels are, as the caller says or the module tells."""
    given = channel_axis if isinstance(channel_axis, Mapping) else dict.fromkeys(names, channel_axis)
    return {name: AxisFinder(model, name, channel_axis=given.get(name)) for name in names}


def _layers(model: nn.Module, layers: Iterable[str] | str) -> list[str]:
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise ValueError("layers is empty; give names of modules")
    for name in names:
        find_module(model, name)
    return names


def _by_channel(values: Tensor, axis: int) -> Tensor:
    """`(B, channels, positions)`"""
    moved = values.movedim(axis, 1)
    return moved.flatten(2) if moved.ndim > 2 else moved[:, :, None]


def _ranks(values: Tensor) -> Tensor:
    """Ranks of each row from 0 to 1, equal for ties."""
    ranks = torch.from_numpy(rankdata(wide(values).cpu().numpy(), axis=1)).to(values.device, torch.float32)
    return (ranks - 1) / max(values.shape[1] - 1, 1)


def _keeper(name: str, mask: Tensor, fill: Tensor | None, find_axis: AxisFinder) -> Any:
    def keep(activation: Tensor) -> Tensor:
        axis = find_axis(activation) % activation.ndim
        channels, rows = activation.shape[axis], len(activation) if mask.ndim == 2 else 1
        if mask.shape[-1] != channels or (mask.ndim == 2 and len(mask) != rows):
            want = f"({channels},) or ({len(activation)}, {channels})"
            raise ValueError(f"circuit[{name!r}] must have shape {want}; got {tuple(mask.shape)}")
        shape = [1] * activation.ndim
        shape[0], shape[axis] = rows, channels
        kept = mask.to(activation.device).reshape(shape)
        if fill is None:
            return activation * kept
        check_array(f"fill[{name!r}]", fill, (channels,))
        shape[0] = 1
        return torch.where(kept, activation, fill.to(activation).reshape(shape))

    return keep


def _logits(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits
