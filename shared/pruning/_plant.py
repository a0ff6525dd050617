"""Hiding a sparse network in a random one: each of its neurons takes the place, and the size, of one that is alike."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared._checks import check_finite, wide


@dataclass(frozen=True)
class Planted:
    """A network with a ticket in it.

    Attributes
    ----------
    model : the host, with the ticket's parameters in place of its own.
    masks : layer -> True at the ticket's weights; "layer.bias" for its biases.
    scale : output of the masked network = scale × output of the ticket, `(outputs,)`.
    places : for every layer, the neurons that the ticket's took.
    """

    model: nn.Module
    masks: dict[str, Tensor]
    scale: Tensor
    places: list[Tensor]


def plant_ticket(model: nn.Module, ticket: nn.Module) -> Planted:
    """Hide a sparse network in a random one (Fischer & Burkholz 2022, algorithm 1).

    Layer by layer each of the ticket's neurons, its parameters θ = (bias, weights divided by the scales of the neurons
    they come from), looks for the free neuron of the host whose parameters m on the same entries are most alike: with
    `c = θᵀm / |θ|²`, positive, and equal signs, the least `|m - cθ|_1`. Its place takes cθ, so what is planted is as
    large as what it replaces; the output is then `scale` times the ticket's. Without such a neuron the first free one
    is taken, with `c = |m|_1 / |θ|_1` (the authors: the first weights' ratio). Outputs keep their order.

    Parameters
    ----------
    model : the host, a chain of Linear layers with ReLU between them; it isn't changed. Its precision is kept, the
        arithmetic is in float64.
    ticket : a chain of as many Linear layers (`analytic_ticket`, or a pruned network): what is zero isn't part of it.
        Neurons without any parameter are left out.

    Returns
    -------
    `Planted`.

    Raises
    ------
    ValueError
        Other modules, other numbers of layers, inputs or outputs, a ticket wider than its host, NaN.
    """
    hosts, guests = _chain("model", model), _chain("ticket", ticket)
    _check_fits(hosts, guests)
    made = copy.deepcopy(model)
    layers = _chain("model", made)
    inputs = next(iter(guests.values())).in_features
    place, scale, used = torch.arange(inputs), torch.ones(inputs, dtype=torch.float64), torch.arange(inputs)
    masks, places = {}, []
    for depth, ((name, layer), guest) in enumerate(zip(layers.items(), guests.values())):
        last = depth == len(layers) - 1
        values = torch.cat([wide(layer.bias.detach()[:, None]), wide(layer.weight.detach())], 1).cpu()
        theta = torch.zeros(guest.out_features, values.shape[1], dtype=torch.float64)
        theta[:, 0] = wide(guest.bias.detach()).cpu()
        theta[:, 1 + place] = wide(guest.weight.detach()).cpu()[:, used] / scale
        used = torch.arange(len(theta)) if last else (theta != 0).any(1).nonzero()[:, 0]
        theta = theta[used]
        place, scale = _own_places(values, theta) if last else _alike(values, theta)
        values[place] = torch.where(theta != 0, scale[:, None] * theta, values[place])
        mask = torch.zeros_like(values, dtype=torch.bool)
        mask[place] = theta != 0
        with torch.no_grad():
            layer.bias.copy_(values[:, 0])
            layer.weight.copy_(values[:, 1:])
        masks[name], masks[f"{name}.bias"] = (part.to(layer.weight.device) for part in (mask[:, 1:], mask[:, 0]))
        places.append(place)
    return Planted(made, masks, scale.to(hosts[name].weight), places)


def _alike(values: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of theta a free row of `values`, and the factor on it."""
    free = torch.ones(len(values), dtype=torch.bool)
    places, scales = [], []
    for row in theta:
        on = row != 0
        m, t = values[:, on], row[on]
        c = m @ t / (t @ t)
        fits = free & (c > 0) & (m.sign() == t.sign()).all(1)
        if fits.any():
            at = int((m - c[:, None] * t).abs().sum(1).masked_fill(~fits, torch.inf).argmin())
            scale = c[at]
        else:
            at = int(free.nonzero()[0, 0])
            scale = _ratio(m[at], t)
        free[at] = False
        places.append(at)
        scales.append(scale)
    return torch.tensor(places, dtype=torch.long), torch.stack(scales)


def _own_places(values: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs stay where they are; the factor is that of sizes."""
    scales = [_ratio(m[t != 0], t[t != 0]) if (t != 0).any() else t.new_ones(()) for m, t in zip(values, theta)]
    return torch.arange(len(theta)), torch.stack(scales)


def _ratio(m: Tensor, t: Tensor) -> Tensor:
    size = m.abs().sum()
    return size / t.abs().sum() if size > 0 else torch.ones_like(size)  # a host of zeros takes the ticket's own size


def _chain(argument: str, model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of a chain; a `ValueError` for what else computes."""
    found: dict[str, nn.Linear] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            found[name] = module
            for parameter in (module.weight, module.bias):
                check_finite(f"{argument}: {name!r}", parameter.detach())
        elif not list(module.children()) and not isinstance(module, nn.ReLU | nn.Flatten | nn.Identity):
            raise ValueError(f"{argument} holds a {type(module).__name__} ({name!r}); expected Linear with bias, ReLU")
    if not found:
        raise ValueError(f"{argument} has no Linear layer")
    return found


def _check_fits(hosts: dict[str, nn.Linear], guests: dict[str, nn.Linear]) -> None:
    if len(hosts) != len(guests):
        raise ValueError(f"ticket has {len(guests)} layers of weights; expected {len(hosts)}, as model")
    rows = list(zip(hosts.items(), guests.values()))
    (_, first), guest = rows[0]
    (_, last), final = rows[-1]
    if (guest.in_features, final.out_features) != (first.in_features, last.out_features):
        want, got = (first.in_features, last.out_features), (guest.in_features, final.out_features)
        raise ValueError(f"ticket takes {got[0]} inputs to {got[1]} outputs; expected {want[0]} to {want[1]}, as model")
    for (name, host), guest in rows[:-1]:
        needed = int(((guest.weight != 0).any(1) | (guest.bias != 0)).sum())
        if needed > host.out_features:
            raise ValueError(f"ticket is wider than model: {needed} neurons for the {host.out_features} of {name!r}")
