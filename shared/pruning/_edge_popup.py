"""Edge-popup: which weights and biases of random, frozen networks to keep; many networks at once.

Networks of one architecture are stacked along a leading axis M and trained together: a step costs little more than one
of the largest layer's matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F
from tqdm.auto import tqdm

from shared._checks import check_choice, check_finite, check_range
from shared.hooks import graph_mode
from shared.pruning._init import scored_layers

BIASES = ("compete", "separate", "kept")
SCORES = ("uniform", "constant")
State = dict[str, Tensor]  # parameter's name -> (M, *its shape)
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Tickets:
    """What edge-popup found in M networks.

    Attributes
    ----------
    masks : parameter -> True where kept, `(M, *shape)`.
    state : parameter -> values of the subnetwork, zero where pruned, rescaled where asked; `(M, *shape)`.
    scale : factor on each network's output that rescaling came to, `(M,)`.
    losses : mean training loss, `(epochs, M)`.
    """

    masks: State
    state: State
    scale: Tensor
    losses: Tensor

    def kept(self) -> dict[str, Tensor]:
        """How many entries of each parameter are kept.

        Returns
        -------
        Parameter -> `(M,)`, whole numbers.
        """
        return {name: mask.flatten(1).sum(1) for name, mask in self.masks.items()}


def anneal(keep: float, levels: int, *, start: float = 1.0) -> list[float]:
    """Densities that fall geometrically to the wanted one, `start (keep / start)^(l / levels)` for l = 1 … levels.

    Parameters
    ----------
    keep : share kept in the end, in (0, 1].
    levels : how many.
    start : the density before the first, at least `keep`.

    Returns
    -------
    One density per level; the last is `keep`.

    Raises
    ------
    ValueError
        keep or start out of range, no level.
    """
    _check_keep(keep)
    check_range("levels", levels, 1)
    check_range("start", start, keep, 1.0)
    return [start * (keep / start) ** (level / levels) for level in range(1, levels)] + [keep]


def stacked_outputs(model: nn.Module, state: Mapping[str, Tensor], x: Tensor, *, per_member: bool = False) -> Tensor:
    """Outputs of M networks of the model's architecture.

    Parameters
    ----------
    model : any of them, or another of the same architecture; its own parameters aren't used.
    state : parameter -> `(M, *shape)`, for all parameters.
    x : `(N, ...)`, the same for all; with `per_member` `(M, N, ...)`.
    per_member : each network has rows of its own.

    Returns
    -------
    `(M, N, ...)`.

    Raises
    ------
    ValueError
        x empty or not finite, parameters missing, another M.
    """
    check_finite("x", x)
    wanted = {name for name, _ in model.named_parameters()}
    if missing := wanted - state.keys():
        raise ValueError(f"state lacks {', '.join(sorted(missing))}")
    members = len(next(iter(state.values())))
    if per_member and len(x) != members:
        raise ValueError(f"x has {len(x)} members; expected {members}, as state has")
    call = vmap(lambda s, rows: functional_call(model, s, (rows,)), (0, 0 if per_member else None))
    return call({name: state[name] for name in wanted}, x)


@graph_mode()
def edge_popup(
    model: nn.Module | Sequence[nn.Module],
    x: Tensor,
    target: Tensor,
    *,
    keep: float | Sequence[float],
    epochs: int = 10,
    levels: int = 1,
    start: float = 1.0,
    rescale: bool = False,
    biases: str = "compete",
    scores: str = "uniform",
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    warmup: int = 0,
    batch_size: int = 32,
    loss: Loss = F.cross_entropy,
    per_member: bool = False,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tickets:
    """Find good subnetworks of frozen random networks by scores (Ramanujan et al. 2020; Fischer et al. 2021).

    Each layer keeps the top share `keep` of its entries by |score|, exactly `round(keep n)`; the gradient of an
    entry's factor goes to its score as if the choice were the identity, also where it is pruned. Of equal scores those
    stay that come first in an order drawn at random before training. Scores are trained by SGD with momentum and a
    cosine schedule; weights and biases never are.

    Parameters
    ----------
    model : one network, or M of the same architecture, trained side by side; none is changed.
    x : `(N, ...)`; with `per_member` `(M, N, ...)`.
    target : `(N, ...)` likewise, as the loss takes it.
    keep : share kept in every layer, in (0, 1]; a sequence gives one per network.
    epochs : passes over the data.
    levels : 1 trains at `keep` from the first step on; more of them anneal the density, as `anneal` does, in equal
        parts of the epochs.
    start : the density from which it is annealed.
    rescale : after each epoch fit a factor on the outputs of its last batch (20 SGD steps of .1), take it into the
        parameters as `rescale_` does, and divide the learning rate by it.
    biases : "compete" with their layer's weights for the share, are chosen "separate", or all "kept".
    scores : "uniform" as the authors' dense layers start (weights `U(±1 / sqrt(fan_in))`, biases
        `U(±sqrt(6 / fan_in))`); "constant", all .5, as their convolutions do: a random choice at
        first.
    lr : learning rate of the scores.
    momentum : of SGD.
    weight_decay : on the scores.
    warmup : epochs over which the learning rate rises from zero.
    batch_size : rows per step, drawn by each network for itself.
    loss : mean loss of outputs and targets of one network.
    per_member : data have a leading axis of networks.
    generator : draws scores and batches; without it torch's own. On the CPU.
    progress : show a bar over epochs.

    Returns
    -------
    Tickets : masks, and the subnetworks' parameters, always with the leading axis M.

    Raises
    ------
    ValueError
        Bad data or another number of targets than rows, keep out of (0, 1], or so small that a layer keeps nothing
        (named), epochs that the levels don't divide, parameters that are no dense or convolutional layer's.
    """
    check_range("warmup", warmup, 0)
    models = [model] if isinstance(model, nn.Module) else list(model)
    keeps = _one_keep_each(keep, len(models))
    check_choice("biases", biases, BIASES)
    check_choice("scores", scores, SCORES)
    rows = _count(x, target, len(models), per_member)
    check_range("batch_size", batch_size, 1)
    check_range("levels", levels, 1)
    if epochs < 1 or epochs % levels:
        raise ValueError(f"epochs={epochs} must be a positive multiple of levels={levels}")
    state = _frozen(models)
    densities = [anneal(k, levels, start=max(start, k)) for k in keeps]
    counts = [_counts(models[0], [d[level] for d in densities], biases) for level in range(levels)]
    first, order = _first_scores(models[0], state, scores, generator)
    popup = _Popup(models[0], state, first, order, loss, momentum, weight_decay)
    steps, losses = math.ceil(rows / batch_size), []
    rates = torch.full((len(models),), lr).to(x.device)
    for epoch in tqdm(range(epochs), disable=not progress, desc="edge-popup"):
        kept, seen = counts[epoch * levels // epochs], []
        drawn = torch.rand(len(models), rows, generator=generator).argsort(1).to(x.device)
        for batch in drawn.split(batch_size, 1):
            at = _rate(epoch + len(seen) / steps, epochs, warmup)
            xs, ts = _rows(x, batch, per_member), _rows(target, batch, per_member)
            seen.append(popup.step(xs, ts, kept, at * rates))
        losses.append(torch.stack(seen).mean(0))
        if rescale:
            rates = rates / popup.rescale(xs, ts, kept)
    masks = popup.masks(counts[-1])
    final = {name: value * masks[name] for name, value in popup.state.items()}
    return Tickets(masks, final, popup.scale, torch.stack(losses))


class _Popup:
    """Stacked frozen parameters, their scores and SGD's velocities."""

    def __init__(
        self, model: nn.Module, state: State, scores: State, order: State, loss: Loss, momentum: float, decay: float
    ) -> None:
        self.model, self.state, self.scores, self.order, self.loss = model, state, scores, order, loss
        self.momentum, self.decay = momentum, decay
        self.velocity = {name: torch.zeros_like(score) for name, score in scores.items()}
        like = next(iter(state.values()))
        self.scale = torch.ones(len(like), dtype=like.dtype, device=like.device)
        self.layers = list(scored_layers(model))

        def of_one(parameters: State, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            value = loss(functional_call(model, parameters, (x,)), target)
            return value, value.detach()

        self.gradients = vmap(grad(of_one, has_aux=True))

    def masks(self, counts: list[tuple[list[str], list[int]]]) -> State:
        """True for the highest |scores| of each group of parameters that compete."""
        kept = {name: torch.ones_like(value, dtype=torch.bool) for name, value in self.state.items()}
        for names, numbers in counts:
            flat = [self.scores[name].abs().flatten(1) for name in names]
            order = torch.cat([self.order[name].flatten(1) for name in names], 1)
            chosen = top_exactly(torch.cat(flat, 1), numbers, order)
            for name, part in zip(names, chosen.split([f.shape[1] for f in flat], 1)):
                kept[name] = part.reshape(self.scores[name].shape)
        return kept

    def step(self, x: Tensor, target: Tensor, counts: list, rates: Tensor) -> Tensor:
        """One step of SGD on the scores; the loss of each network before it."""
        masks = self.masks(counts)
        effective = {name: value * masks[name] for name, value in self.state.items()}
        gradients, losses = self.gradients(effective, x, target)
        for name, score in self.scores.items():
            straight = gradients[name] * self.state[name] * score.sign()  # d(w mask)/d|score|, mask taken as |score|
            self.velocity[name].mul_(self.momentum).add_(straight + self.decay * score)
            score -= rates.view(-1, *[1] * (score.ndim - 1)) * self.velocity[name]
        return losses

    def rescale(self, x: Tensor, target: Tensor, counts: list) -> Tensor:
        """Fit each network's factor on its output, take it into the parameters, and give it back."""
        masks = self.masks(counts)
        subnets = {name: value * masks[name] for name, value in self.state.items()}
        outputs = stacked_outputs(self.model, subnets, x, per_member=True)
        slope = vmap(grad(lambda s, out, t: self.loss(s * out, t)))
        factor = torch.ones_like(self.scale)
        for _ in range(20):
            factor = factor - 0.1 * slope(factor, outputs, target)
        factor = torch.where((factor > 0) & factor.isfinite(), factor, 1.0)
        for place, layer in enumerate(self.layers, start=1):
            for kind, power in (("weight", 1), ("bias", place)):
                if (name := f"{layer}.{kind}".removeprefix(".")) in self.state:
                    by = factor ** (power / len(self.layers))
                    self.state[name] = self.state[name] * by.view(-1, *[1] * (self.state[name].ndim - 1))
        self.scale = self.scale * factor
        return factor


def top_exactly(scores: Tensor, numbers: Sequence[int], order: Tensor) -> Tensor:
    """True for the `numbers[m]` highest entries of row m; of equal scores those stay whose `order` is highest."""
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    for number in set(numbers):
        rows = torch.tensor([m for m, n in enumerate(numbers) if n == number], device=scores.device)
        if number:
            chosen[rows] = _top(*(t if len(rows) == len(t) else t[rows] for t in (scores, order)), number)
    return chosen


def _top(scores: Tensor, order: Tensor, number: int) -> Tensor:
    if scores.device.type == "cpu" and scores.dtype in (torch.float32, torch.float64):  # a tenth of topk's time
        place = scores.shape[1] - number
        least = torch.from_numpy(np.partition(scores.detach().numpy(), place, axis=1)[:, place, None])
    else:
        least = scores.topk(number, sorted=False).values.amin(1, keepdim=True)
    chosen = scores >= least
    if int(chosen.sum()) == number * len(scores):
        return chosen
    above = scores > least  # the others are equal
    place = order.masked_fill(~chosen | above, -1.0).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return above | (place < number - above.sum(1, keepdim=True))


def _rate(epoch: float, epochs: int, warmup: int) -> float:
    """Cosine from 1 to 0, after a linear rise."""
    if epoch < warmup:
        return epoch / warmup
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / max(epochs - warmup, 1)))


def _rows(data: Tensor, index: Tensor, per_member: bool) -> Tensor:
    """The rows each network asks for, `(M, B, ...)`."""
    return torch.stack([data[m][i] for m, i in enumerate(index)]) if per_member else data[index]


def _frozen(models: Sequence[nn.Module]) -> State:
    """The networks' parameters, stacked and without gradients."""
    owned = {f"{name}.{p}".removeprefix(".") for name in scored_layers(models[0]) for p in ("weight", "bias")}
    other = [name for name, _ in models[0].named_parameters() if name not in owned]
    buffers = [name for name, _ in models[0].named_buffers()]
    if other or buffers:
        raise ValueError(
            f"model has {', '.join(other + buffers)}; edge-popup knows dense and convolutional layers only"
        )
    shapes = [{name: p.shape for name, p in m.named_parameters()} for m in models]
    if any(s != shapes[0] for s in shapes):
        raise ValueError("model: the networks differ in architecture; all must have the same parameters")
    return {name: value.detach().clone() for name, value in stack_module_state(list(models))[0].items()}


def _first_scores(
    model: nn.Module, state: State, scores: str, generator: torch.Generator | None
) -> tuple[State, State]:
    """Scores before training, and the order, in [0, 1), among equal ones."""
    found, order = {}, {}
    for name, layer in scored_layers(model).items():
        fan_in = layer.weight[0].numel()
        for kind, bound in (("weight", fan_in**-0.5), ("bias", (6 / fan_in) ** 0.5)):
            if (key := f"{name}.{kind}".removeprefix(".")) in state:
                drawn = torch.rand(state[key].shape, generator=generator)
                first = (2 * drawn - 1) * bound if scores == "uniform" else torch.full_like(drawn, 0.5)
                found[key] = first.to(state[key])
                order[key] = drawn.to(state[key].device)
    return found, order


def _counts(model: nn.Module, keeps: Sequence[float], biases: str) -> list[tuple[list[str], list[int]]]:
    """Groups of parameters that compete, and how many entries of each group every network keeps."""
    groups = []
    for name, layer in scored_layers(model).items():
        weight, bias = f"{name}.weight".removeprefix("."), f"{name}.bias".removeprefix(".")
        if layer.bias is None or biases == "kept":
            groups.append([weight])
        else:
            groups += [[weight, bias]] if biases == "compete" else [[weight], [bias]]
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    found = []
    for names in groups:
        total = sum(sizes[name] for name in names)
        numbers = [round(keep * total) for keep in keeps]
        if min(numbers) < 1 and any(name.endswith("weight") for name in names):  # no bias left is no collapse
            raise ValueError(f"keep={min(keeps):g} empties {' and '.join(names)}, of {total} entries")
        found.append((names, numbers))
    return found


def _one_keep_each(keep: float | Sequence[float], members: int) -> list[float]:
    if not members:
        raise ValueError("model is an empty sequence; at least one network is needed")
    keeps = list(keep) if isinstance(keep, Sequence) else [keep] * members
    if len(keeps) != members:
        raise ValueError(f"keep has {len(keeps)} shares for {members} networks; expected one, or one for each")
    for share in keeps:
        _check_keep(share)
    return keeps


def _check_keep(keep: float) -> None:
    if not 0 < keep <= 1:
        raise ValueError(f"keep={keep!r} is out of range; accepted: (0, 1]")


def _count(x: Tensor, target: Tensor, members: int, per_member: bool) -> int:
    """How many rows each network sees."""
    check_finite("x", x)
    check_finite("target", target)
    lead = 2 if per_member else 1
    if x.ndim < lead + 1 or target.shape[:lead] != x.shape[:lead] or (per_member and len(x) != members):
        wanted = f"({members}, N, ...)" if per_member else "(N, ...)"
        raise ValueError(f"x {tuple(x.shape)} and target {tuple(target.shape)} must both be {wanted}, with the same N")
    return x.shape[lead - 1]
