"""Pruning as arithmetic: a random two-layer network whose subsets of products add up to any wanted layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared._checks import check_array, check_choice, check_range, wide

PAIRINGS = ("independent", "looks-linear")
LONGEST = 32  # candidates: two halves of 2^16 sums each


@dataclass(frozen=True)
class Construction:
    """Two pruned random layers that stand for one layer.

    Attributes
    ----------
    model : `Linear`, `ReLU`, `Linear`; zero where pruned.
    errors : of the subset sums, `|sum - wanted|`, `(problems,)`.
    kept : entries of the two layers that are kept, and how many there were.
    """

    model: nn.Sequential
    errors: Tensor
    kept: tuple[int, int]


def subset_sum(values: Tensor, target: Tensor, *, batch_size: int = 256) -> tuple[Tensor, Tensor]:
    """The subset whose sum is nearest to the target, for many problems: exact, by meeting in the middle.

    All sums of one half of the candidates are sorted and searched with all sums of the other: `2^(n/2)` steps of
    `n/2`, where trying every subset takes `2^n`. The empty subset counts.

    Parameters
    ----------
    values : `(problems, n)` candidates, n at most 32.
    target : `(problems,)`.
    batch_size : problems at a time.

    Returns
    -------
    True where chosen, `(problems, n)`, and the sums' distances to the targets, `(problems,)`, in at least float64
    where the device has it.

    Raises
    ------
    ValueError
        Another shape, NaN, too many candidates.
    """
    check_range("batch_size", batch_size, 1)
    check_array("values", values, ("problems", None))
    check_array("target", target, (len(values),))
    if values.shape[1] > LONGEST:
        raise ValueError(f"values has {values.shape[1]} candidates; accepted: at most {LONGEST}")
    found = [_nearest(wide(v), wide(t)) for v, t in zip(values.detach().split(batch_size), target.split(batch_size))]
    return torch.cat([chosen for chosen, _ in found]), torch.cat([error for _, error in found])


def _nearest(values: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    n = values.shape[1]
    left, right = _bits(n // 2, values), _bits(n - n // 2, values)
    low, high = values[:, : n // 2] @ left.T, values[:, n // 2 :] @ right.T
    high, order = high.sort(1)
    above = torch.searchsorted(high, target[:, None].detach() - low).clamp(max=high.shape[1] - 1)
    best, place = [], []
    for candidate in (above, (above - 1).clamp(min=0)):
        error, at = (low + high.gather(1, candidate) - target[:, None]).abs().min(1)
        best.append(error)
        place.append((at, order.gather(1, candidate.gather(1, at[:, None]))[:, 0]))
    second = best[1] < best[0]
    at, among = (torch.where(second, b, a) for a, b in zip(*place))
    return torch.cat([left[at], right[among]], 1).bool(), torch.minimum(*best)


def _bits(n: int, like: Tensor) -> Tensor:
    """All subsets of n things, `(2^n, n)` of zeros and ones."""
    codes = torch.arange(2**n, device=like.device)
    return ((codes[:, None] >> torch.arange(n, device=like.device)) & 1).to(like)


def construct_layer(
    weight: Tensor,
    bias: Tensor,
    *,
    copies: int,
    pairing: str = "independent",
    nonnegative: bool = False,
    generator: torch.Generator | None = None,
) -> Construction:
    """A dense layer as a subnetwork of two random ones, nothing trained (Fischer et al. 2021).

    Each input feeds `copies` hidden units, of which one weight `w ~ U(-1, 1)` is kept and no bias; `copies` more keep
    only their bias. Output weights `u ~ U(-1, 1)` from these to unit j are kept where the subset of products `u w`
    adds up to the wanted weight. ReLU lets one sign of the input pass, so units with w > 0 and with w < 0 each have
    to make the weight: two problems. "looks-linear" units come as pairs `(w, -w)` with outputs `(u, -u)`, which pass
    `u w x` whatever the sign: one problem, with as many candidates, whose solution the partners copy.

    Parameters
    ----------
    weight : `(out, in)`, the wanted layer's.
    bias : `(out,)`.
    copies : hidden units per input, even, at most 32.
    pairing : "independent", or "looks-linear".
    nonnegative : inputs are never negative (as after a ReLU, or pixels), so that independent units need one sign only.
    generator : draws the random layers, on the CPU.

    Returns
    -------
    Construction : on the weight's device and in its precision.

    Raises
    ------
    ValueError
        Another shape, NaN, an odd number of copies or too many, an unknown pairing.
    """
    check_array("weight", weight, ("out", "in"))
    check_array("bias", bias, (len(weight),))
    check_choice("pairing", pairing, PAIRINGS)
    check_range("copies", copies, 2, LONGEST)
    if copies % 2:
        raise ValueError(f"copies={copies} is odd; units come in pairs")
    wanted = wide(torch.cat([weight, bias[:, None]], 1).detach())  # the bias is one more input, always 1
    outputs, inputs = wanted.shape
    paired = pairing == "looks-linear"
    free = copies // 2 if paired else copies
    first = _uniform(inputs, free, generator).to(wanted)
    first[-1] = first[-1] if paired else first[-1].abs()  # a unit with a negative bias and no input is silent
    second = _uniform(outputs * inputs, free, generator).to(wanted).view(outputs, inputs, free)
    if paired:
        chosen, errors = _solve(second * first, wanted)
        first, second = torch.cat([first, -first], 1), torch.cat([second * chosen, -second * chosen], 2)
    else:
        positive = (first > 0).expand_as(second)
        chosen, errors = _solve(second * first * positive, wanted)
        kept = chosen & positive
        if not nonnegative:
            other, more = _solve((second * first * ~positive)[:, :-1], wanted[:, :-1])
            kept[:, :-1] |= other & ~positive[:, :-1]
            errors = torch.cat([errors, more])
        second = second * kept
    return Construction(_network(first, second, weight), errors, _kept(first, second))


def _solve(products: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    chosen, errors = subset_sum(products.flatten(0, 1), wanted.flatten())
    return chosen.view(products.shape), errors


def _uniform(rows: int, columns: int, generator: torch.Generator | None) -> Tensor:
    return 2 * torch.rand(rows, columns, generator=generator) - 1


def _network(first: Tensor, second: Tensor, like: Tensor) -> nn.Sequential:
    """The two layers of units in groups: `first` `(in + 1, copies)`, `second` `(out, in + 1, copies)`."""
    groups, copies = first.shape
    sizes = (groups - 1, groups * copies), (groups * copies, len(second))
    layers = [nn.utils.skip_init(nn.Linear, *size) for size in sizes]  # no draw from torch's global state
    net = nn.Sequential(layers[0], nn.ReLU(), layers[1]).to(like).requires_grad_(False)
    hidden = torch.zeros(groups, copies, groups - 1, dtype=first.dtype, device=first.device)
    hidden[range(groups - 1), :, range(groups - 1)] = first[:-1]
    net[0].weight.copy_(hidden.flatten(0, 1))
    net[0].bias.zero_()[-copies:] = first[-1].to(like)
    net[2].weight.copy_(second.flatten(1))
    net[2].bias.zero_()
    return net


def _kept(first: Tensor, second: Tensor) -> tuple[int, int]:
    used = (second != 0).any(0)  # a hidden unit that nothing reads needs no weight
    groups, copies = first.shape
    total = groups * copies * groups + second.numel() + len(second)
    return int(used.sum() + (second != 0).sum()), total
