"""M networks of one architecture as a single one, so that one pass runs, trains or explains all of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared._checks import check_range
from shared.lrp.engine import StackedLinear, unsupported

ELEMENTWISE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Identity,
    nn.Dropout,
)
_KNOWN = ("Linear", *(kind.__name__ for kind in ELEMENTWISE))


class FixedDropout(nn.Module):
    """Dropout whose masks were drawn once: `(B, M, D)` times `masks` `(M, D)` of 0 and 1 / (1 - p)."""

    def __init__(self, masks: Tensor) -> None:
        super().__init__()
        self.register_buffer("masks", masks)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.masks


class Ensemble(nn.Module):
    """Dense networks stacked: features `(B, D)`, or `(B, M, D)` with one input per member -> outputs `(B, M, K)`.

    The stack is a module like any other: its parameters train all members at once (a loss summed over members keeps
    them independent), and `attribute` explains it with any composite.

    Parameters
    ----------
    members : M >= 1 `nn.Sequential` (nested ones are flattened) of Linear layers, elementwise activations and Dropout,
        alike but for their parameters, which are copied.

    Raises
    ------
    ValueError
        No members, or members that differ.
    UnsupportedModule
        Another layer.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(members) == 0:
            raise ValueError("members is empty; at least one network is needed")
        leaves = [_leaves(member, number) for number, member in enumerate(members)]
        depths = sorted({len(layers) for layers in leaves})
        if len(depths) > 1:
            raise ValueError(f"members have {' and '.join(map(str, depths))} layers; all must have one architecture")
        self.layers = nn.Sequential(*(_stack(column, place) for place, column in enumerate(zip(*leaves))))
        self.n_members = len(members)
        self.train(members[0].training)

    @classmethod
    def from_dropout(
        cls, model: nn.Module, *, n_members: int = 10, generator: torch.Generator | None = None
    ) -> Ensemble:
        """MC dropout as an ensemble: every member is the model with dropout masks of its own, drawn here once.

        A member's mask is the same for every row and every call, so that the function that is explained is the one
        that was run (Gal and Ghahramani 2016 draw anew at each pass).

        Parameters
        ----------
        model : as a member; with dropout.
        n_members : M, >= 1.
        generator : draws the masks.

        Returns
        -------
        The ensemble, in eval mode.

        Raises
        ------
        ValueError
            The model has no dropout.
        """
        check_range("n_members", n_members, 1)
        ensemble = cls([model] * n_members)
        width, drawn = 0, 0
        for place, layer in enumerate(ensemble.layers):
            if isinstance(layer, nn.Dropout) and layer.p > 0:
                width = width or ensemble.n_inputs
                keep = torch.rand(n_members, width, generator=generator) >= layer.p
                weight = next(ensemble.parameters())
                ensemble.layers[place] = FixedDropout(keep.to(weight) / (1 - layer.p))
                drawn += 1
            width = getattr(layer, "out_features", width)
        if not drawn:
            raise ValueError("model has no dropout with p > 0, so all members would be the same")
        return ensemble.eval()

    @property
    def n_inputs(self) -> int:
        """D, the number of features."""
        return next(layer.in_features for layer in self.layers if isinstance(layer, StackedLinear))

    @property
    def n_outputs(self) -> int:
        """K, the number of outputs of a member."""
        return [layer.out_features for layer in self.layers if isinstance(layer, StackedLinear)][-1]

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            x = x[:, None].expand(-1, self.n_members, -1)
        return self.layers(x)

    def member(self, number: int) -> nn.Sequential:
        """One member as a network of its own, a copy.

        Parameters
        ----------
        number : which, from 0 to M - 1.

        Returns
        -------
        `(B, D)` -> `(B, K)`.

        Raises
        ------
        ValueError
            There is no such member.
        """
        check_range("number", number, 0, self.n_members - 1)
        return nn.Sequential(*(_unstack(layer, number) for layer in self.layers)).train(self.training)


def _leaves(member: nn.Module, number: int) -> list[nn.Module]:
    """The member's layers in order; raises for anything but a (nested) Sequential of known layers."""
    if isinstance(member, nn.Sequential):
        return [leaf for child in member for leaf in _leaves(child, number)]
    if type(member) is nn.Linear or type(member) in ELEMENTWISE:
        return [member]
    raise unsupported("stacking", member, f"member {number}", _KNOWN)


def _stack(column: Sequence[nn.Module], place: int) -> nn.Module:
    kinds = {repr(layer) for layer in column}
    if len(kinds) > 1:
        raise ValueError(f"members differ at layer {place}: {', '.join(sorted(kinds))}; all must have one architecture")
    first = column[0]
    return StackedLinear(column) if isinstance(first, nn.Linear) else copy.deepcopy(first)


def _unstack(layer: nn.Module, number: int) -> nn.Module:
    if isinstance(layer, FixedDropout):
        return FixedDropout(layer.masks[number])
    if not isinstance(layer, StackedLinear):
        return copy.deepcopy(layer)
    dense = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None).to(layer.weight)
    with torch.no_grad():
        dense.weight.copy_(layer.weight[number])
        if layer.bias is not None:
            dense.bias.copy_(layer.bias[number])
    return dense
