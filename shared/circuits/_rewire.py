"""A unit of a linear or convolutional layer taken apart into sub-units whose fixed sum is the unit (Hesse et al. 2025).

A unit's pre-activation is a sum over its inputs, so it may be dealt out to rows that get a part of every weight each.
What the rows give, added up, is the unit again, whatever the parts: exactness says nothing about their use.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared._checks import check_array, check_finite, check_range, check_shape, wide
from shared.hooks import find_module, refuse_compiled

SPATIAL = {nn.Linear: 0, nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}  # exact types: a subclass may compute otherwise


@dataclass(frozen=True, eq=False)
class Split:
    """How a unit's weights are dealt out to M rows, and how those are added up again.

    Attributes
    ----------
    parts : Tensor
        Shape (M, inputs): what row m gets of the weight of input i.
    merge : Tensor
        Shape (M,): weight of row m in the sum, 1 for sub-units; `merge @ parts` is 1 for every input.
    bias : Tensor
        Shape (M,): what row m gets of the bias; `merge @ bias` is 1.
    n_subunits : int
        K: the first K rows are sub-units, others (a residue) are only subtracted.

    Raises
    ------
    ValueError
        Other shapes; NaN; parts that don't add up to the unit.
    """

    parts: Tensor
    merge: Tensor
    bias: Tensor
    n_subunits: int

    def __post_init__(self) -> None:
        check_array("parts", self.parts, ("M", "inputs"))
        for name in ("merge", "bias"):
            check_array(name, getattr(self, name), (len(self.parts),))
        check_range("n_subunits", self.n_subunits, 1, len(self.parts))
        if not bool((self.merge[: self.n_subunits] == 1).all()):
            raise ValueError(f"merge must be 1 for the {self.n_subunits} sub-units; got {self.merge.tolist()}")
        for name in ("parts", "bias"):
            off = float((wide(self.merge) @ wide(getattr(self, name)) - 1).abs().max())
            if off > (1e-9 if self.parts.dtype == torch.float64 else 1e-5):
                raise ValueError(f"{name} must add up to 1 by merge, for every input; got a sum {off:.2g} away from it")


def split_by_shares(shares: Tensor) -> Split:
    """Every input dealt out among K sub-units: hard (one owner, or an equal share of all) or soft.

    Parameters
    ----------
    shares : (K, inputs), what each sub-unit gets of an input, not negative; a column's sum is 1 (to rounding, which is
        taken out). The bias is shared equally.

    Returns
    -------
    K rows, each with merge weight 1.

    Raises
    ------
    ValueError
        Negative shares; columns that don't sum to 1; NaN.
    """
    check_array("shares", shares, ("K", "inputs"))
    dealt = wide(shares.detach())
    if float(dealt.min()) < 0:
        raise ValueError(f"shares must not be negative; got {float(dealt.min()):.3g}")
    off = float((dealt.sum(0) - 1).abs().max())
    if off > 0.003:  # bfloat16 rounds a sum of 1 by 2⁻⁹
        raise ValueError(f"shares must sum to 1 over the sub-units for every input; got a sum {off:.2g} away from it")
    k, ones = len(dealt), dealt.new_ones(len(dealt))
    return Split(dealt / dealt.sum(0), ones, ones / k, k)


def split_by_sources(sources: Tensor) -> Split:
    """K sub-units that keep their own and all common inputs, and a residue of the common ones, subtracted K − 1 times.

    The form of Hesse et al. 2025 (section 3) for K = 2: weights w₁ without the second sources, w₂ without the first,
    w₃ without either, and w = w₁ + w₂ − w₃. Every row has the whole bias.

    Parameters
    ----------
    sources : bool (K, inputs), True where an input is sub-unit k's own; an input that is nobody's is common.

    Returns
    -------
    K + 1 rows with merge weights 1, …, 1, −(K − 1).

    Raises
    ------
    ValueError
        Sources that aren't bool; an input that two sub-units own.
    """
    _check_sources(sources)
    owned = sources.any(0)
    parts = wide(torch.cat([sources | ~owned, ~owned[None]]))
    merge = parts.new_ones(len(parts))
    merge[-1] = 1 - len(sources)
    return Split(parts, merge, parts.new_ones(len(parts)), len(sources))


def source_sets(contributions: Tensor, *, ratio: float = 0.5) -> Tensor:
    """Which input is whose: k's own if ratio · its contribution to k exceeds that to every other (Hesse et al. 2025).

    Where contributions are negative, more than one k may qualify; the first one is taken, as the official code does.

    Parameters
    ----------
    contributions : (K, inputs), what input i gives to the unit on average over the examples of concept k.
    ratio : ρ in (0, 1]; at 1 an input is common only by a tie.

    Returns
    -------
    bool (K, inputs), at most one True per input.

    Raises
    ------
    ValueError
        Fewer than two rows; a ratio outside (0, 1], by which sets may overlap.
    """
    check_array("contributions", contributions, ("K", "inputs"))
    if len(contributions) < 2:
        raise ValueError(f"contributions must have two rows or more; got {len(contributions)}")
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio={ratio!r} is out of range; accepted: (0, 1]")
    values = contributions.detach()
    others = torch.stack([torch.cat([values[:k], values[k + 1 :]]).amax(0) for k in range(len(values))])
    own = ratio * values > others
    return own & (own.cumsum(0) == 1)


class SplitLayer(nn.Module):
    """A linear or convolutional layer in which some units are computed as the sum of their sub-units.

    `rows` is the layer with more outputs: as many as before, where a split unit is its first sub-unit, then all others;
    by its name sub-units are captured or visualised as any channel is. Not for training: weights get no gradient.

    Parameters
    ----------
    layer : `nn.Linear` or `nn.Conv1d` to `nn.Conv3d` with groups=1; its weights are copied.
    splits : unit -> `Split` over the layer's inputs (a convolution's input channels).

    Raises
    ------
    ValueError
        Another kind of module, such as one after a non-linearity, which has no sum to take apart; a grouped
        convolution; no splits; a unit the layer hasn't; a split over another number of inputs.
    """

    def __init__(self, layer: nn.Module, splits: Mapping[int, Split]) -> None:
        super().__init__()
        _check_splits(layer, splits)
        weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        self.n_units, self._axis, self._columns, owners = len(weight), -1 - SPATIAL[type(layer)], {}, []
        self._subunits = {unit: split.n_subunits for unit, split in splits.items()}
        for unit, split in splits.items():
            self._columns[unit] = [
                unit,
                *range(self.n_units + len(owners), self.n_units + len(owners) + len(split.parts) - 1),
            ]
            owners += [unit] * (len(split.parts) - 1)
        self.rows = _wider(
            layer, _stacked(weight, splits, "parts"), None if bias is None else _stacked(bias, splits, "bias")
        )
        merge = torch.cat([split.merge[1:].to(weight) for split in splits.values()])
        self.register_buffer("owners", torch.tensor(owners, dtype=torch.long, device=weight.device), persistent=False)
        self.register_buffer("merge", merge, persistent=False)
        self._factors: dict[tuple[int, int], float] = {}

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, every split unit merged.

        Parameters
        ----------
        x : what the layer takes.

        Returns
        -------
        As the layer gives it.
        """
        rows = self.rows(x)
        units = rows.narrow(self._axis, 0, self.n_units)
        more = rows.narrow(self._axis, self.n_units, len(self.owners))
        shape = (-1, *[1] * (-1 - self._axis))
        out = units.index_add(self._axis, self.owners, more * self.merge.to(rows.dtype).reshape(shape))
        for (unit, k), factor in self._factors.items():
            column = rows.narrow(self._axis, self._columns[unit][k], 1)
            out = out.index_add(self._axis, self.owners.new_tensor([unit]), column, alpha=factor - 1)
        return out

    def columns(self, unit: int) -> list[int]:
        """Which outputs of `rows` are a unit's: its K sub-units first, then a residue if there is one.

        Parameters
        ----------
        unit : one that was split.

        Returns
        -------
        M numbers of outputs.

        Raises
        ------
        ValueError
            A unit that wasn't split.
        """
        if unit not in self._columns:
            raise ValueError(f"unit={unit!r} was not split; split are {sorted(self._columns)}")
        return list(self._columns[unit])

    def subunits(self, x: Tensor) -> dict[int, Tensor]:
        """What the rows of every split unit give, on their own.

        Parameters
        ----------
        x : what the layer takes.

        Returns
        -------
        Unit -> tensor, the layer's output with M in place of its outputs.
        """
        rows = self.rows(x)
        return {u: rows.index_select(self._axis, self.owners.new_tensor(c)) for u, c in self._columns.items()}

    def merge_matrix(self) -> Tensor:
        """The merge as a matrix, which the paper writes as a further 1×1 convolution.

        Returns
        -------
        (outputs, outputs of `rows`).
        """
        matrix = self.merge.new_zeros(self.n_units, self.n_units + len(self.owners))
        matrix.fill_diagonal_(1)
        matrix[self.owners, torch.arange(self.n_units, matrix.shape[1], device=matrix.device)] = self.merge
        return matrix

    @contextmanager
    def steered(self, factors: Mapping[tuple[int, int], float]) -> Iterator[SplitLayer]:
        """Sub-units count more or less than once while the context is open; the layer isn't exact then.

        Parameters
        ----------
        factors : (unit, k) -> factor of sub-unit k: 0 takes it out, 1 leaves it, 2 doubles it. A residue stays.

        Yields
        ------
        The layer.

        Raises
        ------
        ValueError
            A unit that wasn't split; a sub-unit it hasn't; a factor that isn't finite.
        """
        for (unit, k), factor in factors.items():
            self.columns(unit)
            check_range(f"factors: sub-unit of unit {unit}", k, 0, self._subunits[unit] - 1)
            check_finite("factors", torch.tensor([float(factor)]))
        before = self._factors
        self._factors = before | dict(factors)
        try:
            yield self
        finally:
            self._factors = before


@contextmanager
def rewired(model: nn.Module, splits: Mapping[str, Mapping[int, Split]]) -> Iterator[dict[str, SplitLayer]]:
    """Units of chosen layers split while the context is open: the same model in other words, its outputs as they were.

    Sub-units are found by name: `capture(model, "conv.rows")` holds them at `layers["conv"].columns(unit)`.

    Parameters
    ----------
    model : any torch module; its layers are put back on exit.
    splits : layer -> unit -> `Split`, before normalisation and non-linearity. A layer used twice is split in each use.

    Yields
    ------
    Layer -> `SplitLayer`.

    Raises
    ------
    ValueError
        No layers, an unknown one (the nearest are named), or one that `SplitLayer` refuses; a compiled model.
    """
    refuse_compiled(model)
    if not splits:
        raise ValueError("splits is empty; give layer -> unit -> Split")
    made: dict[str, SplitLayer] = {}
    for name, units in splits.items():
        layer = find_module(model, name)
        if layer is model:
            raise ValueError("splits names the model itself; for a single layer use SplitLayer(layer, splits)")
        try:
            made[name] = SplitLayer(layer, units).train(layer.training)
        except ValueError as error:
            raise ValueError(f"splits[{name!r}]: {error}") from None
    places = [  # whoever holds the layer, under any name
        (parent, child, found, made[name])
        for name in splits
        for parent in model.modules()
        for child, found in parent._modules.items()
        if found is find_module(model, name)
    ]
    try:
        for parent, child, _, split in places:
            parent._modules[child] = split
        yield made
    finally:
        for parent, child, layer, _ in places:
            parent._modules[child] = layer


def _check_sources(sources: Tensor) -> None:
    check_shape("sources", sources, ("K", "inputs"))
    if sources.dtype != torch.bool or not sources.numel():
        raise ValueError(f"sources must be bool (K, inputs), not empty; got {sources.dtype} {tuple(sources.shape)}")
    twice = int((sources.sum(0) > 1).sum())
    if twice:
        raise ValueError(f"sources must not overlap; got {twice} inputs that more than one sub-unit owns")


def check_layer(layer: nn.Module) -> None:
    """Raise `ValueError` unless the layer's units are plain sums over its inputs."""
    kind = type(layer)
    if kind not in SPATIAL:
        raise ValueError(
            f"layer is {kind.__name__}, which has no linear sum to take apart; accepted are Linear and Conv1d to "
            "Conv3d, plain and unparametrised: of a unit after a non-linearity or a norm, the layer before it"
        )
    if getattr(layer, "groups", 1) != 1:
        raise ValueError(f"layer is a grouped convolution (groups={layer.groups}), which can't be split; accepted: 1")


def _check_splits(layer: nn.Module, splits: Mapping[int, Split]) -> None:
    check_layer(layer)
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise ValueError("layer has forward hooks, which a split layer wouldn't run; open them inside")
    outputs, inputs = layer.weight.shape[:2]
    if not splits:
        raise ValueError("splits is empty; give unit -> Split")
    for unit, split in splits.items():
        if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit < outputs:
            raise ValueError(f"splits names unit {unit!r}; the layer has units 0 to {outputs - 1}")
        if not isinstance(split, Split):
            raise ValueError(f"splits[{unit}] is a {type(split).__name__}; make it with split_by_shares or _by_sources")
        check_shape(f"splits[{unit}].parts", split.parts, ("M", inputs))


def _stacked(values: Tensor, splits: Mapping[int, Split], of: str) -> Tensor:
    """Weights or biases of all rows: the layer's own, split units by their first part, then the other parts."""
    first, more = values.clone(), []
    for unit, split in splits.items():
        dealt = getattr(split, of).to(values.device)
        whole = wide(values[unit])  # rounded once, after it is dealt out
        parts = (whole * dealt.reshape(*dealt.shape, *[1] * (whole.ndim - dealt.ndim + 1))).to(values.dtype)
        first[unit] = parts[0]
        more.append(parts[1:])
    return torch.cat([first, *more])


def _wider(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """The layer with these rows in place of its own."""
    wider = copy.deepcopy(layer)  # stride, padding and dilation are kept
    wider.weight = nn.Parameter(weight, requires_grad=False)
    wider.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    setattr(wider, "out_features" if isinstance(layer, nn.Linear) else "out_channels", len(weight))
    return wider
