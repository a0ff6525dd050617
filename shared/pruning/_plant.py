"""Hiding a sparse network in a random one: each of its neurons takes the place, and the size, of one that is alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared._checks import check_finite, copied, wide

_POOLS = nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d
_KEEP_SIGN = nn.ReLU | nn.Flatten | nn.Identity | _POOLS  # f(c x) = c f(x) for c > 0, each channel for itself


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
    model : the host, a chain of Linear layers and two-dimensional convolutions with ReLU between them, pooling and one
        flattening; it isn't changed. Its precision is kept, the arithmetic is in float64. A convolution's neuron is
        its channel.
    ticket : a chain of as many layers of the same kinds (`analytic_ticket`, or a pruned network): what is zero isn't
        part of it. Neurons without any parameter are left out.

    Returns
    -------
    `Planted`.

    Raises
    ------
    ValueError
        Other modules, other numbers or kinds of layers, inputs or outputs, a ticket wider than its host, NaN.
    """
    hosts, guests = _chain("model", model), _chain("ticket", ticket)
    _check_fits(hosts, guests)
    _check_between(model, ticket)
    made = copied("model", model)
    layers = _chain("model", made)
    inputs = next(iter(guests.values())).weight.shape[1]
    place, scale, used = torch.arange(inputs), torch.ones(inputs, dtype=torch.float64), torch.arange(inputs)
    width, guest_width = inputs, inputs  # neurons that the layer takes
    masks, places = {}, []
    for depth, ((name, layer), guest) in enumerate(zip(layers.items(), guests.values())):
        last = depth == len(layers) - 1
        values = torch.cat([wide(layer.bias.detach()[:, None]), wide(layer.weight.detach()).flatten(1)], 1).cpu()
        own = wide(guest.weight.detach()).cpu().flatten(1).unflatten(1, (guest_width, -1))[:, used] / scale[:, None]
        theta = torch.zeros(len(own), width, own.shape[2], dtype=torch.float64)
        theta[:, place] = own
        theta = torch.cat([wide(guest.bias.detach()).cpu()[:, None], theta.flatten(1)], 1)
        used = torch.arange(len(theta)) if last else (theta != 0).any(1).nonzero()[:, 0]
        width, guest_width = len(values), len(theta)
        theta = theta[used]
        place, scale = _own_places(values, theta) if last else _alike(values, theta)
        values[place] = torch.where(theta != 0, scale[:, None] * theta, values[place])
        mask = torch.zeros_like(values, dtype=torch.bool)
        mask[place] = theta != 0
        with torch.no_grad():
            layer.bias.copy_(values[:, 0])
            layer.weight.copy_(values[:, 1:].reshape(layer.weight.shape))
        parts = (mask[:, 1:].reshape(layer.weight.shape), mask[:, 0])
        masks[name], masks[f"{name}.bias"] = (part.to(layer.weight.device) for part in parts)
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
    return torch.tensor(places, dtype=torch.long), torch.stack(scales) if scales else values.new_zeros(0)


def _own_places(values: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs stay where they are; the factor is that of sizes."""
    scales = [_ratio(m[t != 0], t[t != 0]) if (t != 0).any() else t.new_ones(()) for m, t in zip(values, theta)]
    return torch.arange(len(theta)), torch.stack(scales)


def _ratio(m: Tensor, t: Tensor) -> Tensor:
    size = m.abs().sum()
    return size / t.abs().sum() if size > 0 else torch.ones_like(size)  # a host of zeros takes the ticket's own size


def _chain(argument: str, model: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers of weights of a chain; a `ValueError` for what else computes."""
    found: dict[str, nn.Linear | nn.Conv2d] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            found[name] = module
            if getattr(module, "groups", 1) != 1:
                raise ValueError(f"{argument} holds a convolution in {module.groups} groups ({name!r}); expected one")
            for parameter in (module.weight, module.bias):
                check_finite(f"{argument}: {name!r}", parameter.detach())
        elif not list(module.children()) and not isinstance(module, _KEEP_SIGN):
            kinds = "Linear or Conv2d with bias, ReLU, pooling"
            raise ValueError(f"{argument} holds a {type(module).__name__} ({name!r}); expected {kinds}")
    if not found:
        raise ValueError(f"{argument} has no Linear layer and no convolution")
    return found


def _check_between(model: nn.Module, ticket: nn.Module) -> None:
    """Pooling of both in the same places."""
    found = [
        [_shape(m) for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d | _POOLS) and not list(m.children())]
        for net in (model, ticket)
    ]
    for host, guest in zip(*found):
        if host != guest:
            raise ValueError(f"ticket has {guest} where model has {host}; expected the same")
    if len(found[0]) != len(found[1]):
        raise ValueError(f"ticket has {len(found[1])} layers and poolings; expected {len(found[0])}, as model")


def _shape(module: nn.Module) -> str:
    """What a layer does to the shape of maps, without its width."""
    if isinstance(module, nn.Linear):
        return "Linear"
    if not isinstance(module, nn.Conv2d):
        return repr(module)
    geometry = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    return f"Conv2d({', '.join(f'{key}={getattr(module, key)}' for key in geometry)})"


def _check_fits(hosts: dict[str, nn.Linear | nn.Conv2d], guests: dict[str, nn.Linear | nn.Conv2d]) -> None:
    if len(hosts) != len(guests):
        raise ValueError(f"ticket has {len(guests)} layers of weights; expected {len(hosts)}, as model")
    rows = list(zip(hosts.items(), guests.values()))
    want = (rows[0][0][1].weight.shape[1], len(rows[-1][0][1].weight))
    got = (rows[0][1].weight.shape[1], len(rows[-1][1].weight))
    if got != want:
        raise ValueError(f"ticket takes {got[0]} inputs to {got[1]} outputs; expected {want[0]} to {want[1]}, as model")
    for (name, host), guest in rows[:-1]:
        needed = int(((guest.weight != 0).flatten(1).any(1) | (guest.bias != 0)).sum())
        if needed > len(host.weight):
            raise ValueError(f"ticket is wider than model: {needed} neurons for the {len(host.weight)} of {name!r}")
