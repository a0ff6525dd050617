"""Many networks of one architecture as one module: a step trains all of them, at little more than one's overhead."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from shared._checks import check_finite


class StackedNet(nn.Module):
    """Networks of one architecture, their parameters stacked on a leading axis (`torch.func`, "model ensembling").

    Submodules keep their names, so that `net.get_submodule("0").weight` is `(networks, out, in)`. The networks share
    nothing: the gradient of a sum over them is each one's own, and Adam or SGD with momentum moves each as if alone.

    Parameters
    ----------
    nets : modules alike in structure, with other values; they are copied.

    Raises
    ------
    ValueError
        No networks, or networks of different structure.
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        shapes = [[(k, v.shape) for k, v in net.state_dict().items()] for net in nets]
        if not shapes or any(other != shapes[0] for other in shapes):
            raise ValueError("nets must be at least one module, all of the same parameters and buffers")
        self.size = len(nets)
        frame = copy.deepcopy(nets[0])
        self._frame = [frame]  # in a list: its parameters are none of ours
        for name, child in copy.deepcopy(nets[0]).named_children():
            self.add_module(name, child)
        for name, _ in frame.named_parameters():
            owner, leaf = self._place(name)
            values = torch.stack([net.get_parameter(name).detach() for net in nets])
            setattr(owner, leaf, nn.Parameter(values, requires_grad=frame.get_parameter(name).requires_grad))
        for name, _ in frame.named_buffers():
            owner, leaf = self._place(name)
            owner.register_buffer(leaf, torch.stack([net.get_buffer(name) for net in nets]))

    def _place(self, name: str) -> tuple[nn.Module, str]:
        path, _, leaf = name.rpartition(".")
        return self.get_submodule(path), leaf

    def _values(self) -> dict[str, Tensor]:
        """By attribute, so that a parametrised weight (a masked one) counts with the value it computes."""
        frame = self._frame[0]
        names = [name for name, _ in (*frame.named_parameters(), *frame.named_buffers())]
        return {name: getattr(*self._place(name)) for name in names}

    def forward(self, x: Tensor) -> Tensor:
        """Each network's output for its own rows.

        Parameters
        ----------
        x : `(networks, B, …)`; `(1, B, …)` gives all the same rows.

        Returns
        -------
        `(networks, B, …)`.

        Raises
        ------
        ValueError
            Another number of networks; NaN.
        """
        check_finite("x", x)
        if x.shape[0] not in (1, self.size):
            raise ValueError(f"x has shape {tuple(x.shape)}; expected {self.size} networks (or 1) first, then rows")
        frame = self._frame[0].train(self.training)

        def call(values: dict[str, Tensor], rows: Tensor) -> Tensor:
            return functional_call(frame, values, (rows,))

        if x.shape[0] == 1:
            return torch.vmap(call, in_dims=(0, None), randomness="different")(self._values(), x[0])
        return torch.vmap(call, randomness="different")(self._values(), x)

    def unstacked(self, index: int) -> nn.Module:
        """A copy of one of the networks.

        Parameters
        ----------
        index : which.

        Returns
        -------
        A module of the architecture that was stacked.
        """
        net = copy.deepcopy(self._frame[0]).train(self.training)
        values = self._values()
        for name, held in (*net.named_parameters(), *net.named_buffers()):  # data, so that tied weights stay tied
            held.data = values[name][index].detach().clone()  # on the stack's device, in its precision
        return net
