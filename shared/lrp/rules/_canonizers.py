"""Batch norm merged into the layer before it, as an override inside the context: no parameter is touched."""

from __future__ import annotations

import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from shared.hooks import find_module, first_tensor
from shared.lrp._graph import count_consumers
from shared.lrp.rules._ops import BatchNorm, LinearOp, leaves, linear_op


class MergeBatchNorm:
    """Treat an eval-mode `linear/conv -> BatchNorm` pair as one linear layer while a composite is active.

    `W' = W gamma / sqrt(var + eps)` per output channel, `b' = (b - mean) gamma / sqrt(var + eps) + beta`; the batch
    norm itself passes its input through. Weights are merged at each call, so it is safe inside a training loop.

    Parameters
    ----------
    pairs : batch norm's name -> name of its linear layer. By default each batch norm is paired with the linear layer
        right before it in registration order (as in zennit); `attribute` leaves out those that don't follow it in
        data flow too.
    """

    def __init__(self, *, pairs: Mapping[str, str] | None = None) -> None:
        self.pairs = dict(pairs) if pairs is not None else None

    def find(self, model: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
        """The pairs to merge.

        Parameters
        ----------
        model : any torch module.

        Returns
        -------
        List of (linear layer, batch norm).

        Raises
        ------
        ValueError
            `pairs` name something else.
        """
        if self.pairs is not None:
            named = [(find_module(model, linear), find_module(model, norm)) for norm, linear in self.pairs.items()]
            return [pair for pair in named if self._check(*pair)]
        adjacent = itertools.pairwise(leaves(model).values())
        return [(a, b) for a, b in adjacent if isinstance(b, BatchNorm) and linear_op(a) is not None]

    @staticmethod
    def _check(linear: nn.Module, norm: nn.Module) -> bool:
        if linear_op(linear) is None or not isinstance(norm, BatchNorm):
            raise ValueError(
                f"pairs must map a BatchNorm to a linear layer; got {type(norm).__name__} -> {type(linear).__name__}"
            )
        return True


Pair = tuple[nn.Module, nn.Module]
_VERIFIED: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, ...], list[int]]] = weakref.WeakKeyDictionary()


def in_data_flow(model: nn.Module, pairs: list[Pair], run: Callable[[], Any]) -> list[Pair]:
    """Those pairs whose layer feeds exactly its batch norm; `run` calls the model with a graph, once per new model."""
    key = tuple(id(norm) for _, norm in pairs)
    known = _VERIFIED.setdefault(model, {})
    if pairs and key not in known:
        known[key] = [id(norm) for norm in _fed_directly(pairs, run)]
    return [pair for pair in pairs if id(pair[1]) in known[key]] if pairs else []


def _fed_directly(pairs: list[Pair], run: Callable[[], Any]) -> list[nn.Module]:
    calls: Counter[nn.Module] = Counter()
    outputs: dict[nn.Module, Tensor] = {}
    fed: dict[nn.Module, list[Any]] = {norm: [] for _, norm in pairs}  # graph node of each input that is the layer's

    def after(linear: nn.Module, _args: Any, output: Tensor) -> None:
        calls[linear] += 1
        outputs[linear] = output

    def before(linear: nn.Module, norm: nn.Module, args: Any) -> None:
        calls[norm] += 1
        if args[0] is outputs.pop(linear, None):
            fed[norm].append(args[0].grad_fn)

    with ExitStack() as stack:
        for linear, norm in pairs:
            stack.callback(linear.register_forward_hook(after).remove)
            stack.callback(norm.register_forward_pre_hook(partial(before, linear)).remove)
        output = first_tensor(run())
    consumers = count_consumers({node for found in fed.values() for node in found}, output)
    # a layer that several norms share is merged into none of them: its other calls would get the wrong weights
    always = [(linear, norm) for linear, norm in pairs if 0 < len(fed[norm]) == calls[linear] == calls[norm]]
    return [norm for _, norm in always if all(consumers[node] <= 1 for node in fed[norm])]


class MergedPair:
    """One active merge: hands out the merged parameters; checks that the batch norm gets this layer's output."""

    def __init__(self, op: LinearOp, linear: nn.Module, norm: nn.Module, name: str) -> None:
        self.op, self.linear, self.norm, self.name = op, linear, norm, name
        self.output: Tensor | None = None
        self.nodes: list[Any] = []  # of the layer's outputs in the autograd graph, one per call

    def parameters(self) -> tuple[Tensor, Tensor]:
        """`(W', b')` of the merged layer."""
        norm, weight = self.norm, self.linear.weight
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight
        bias = 0.0 if self.linear.bias is None else self.linear.bias
        offset = (bias - norm.running_mean) * scale
        if norm.bias is not None:
            offset = offset + norm.bias
        return weight * self._per_output(scale, weight), offset

    def _per_output(self, scale: Tensor, weight: Tensor) -> Tensor:
        groups = getattr(self.op, "groups", 1)
        if self.op.out_axis == 1 and groups > 1:  # transposed conv: (in, out / groups, ...), inputs ordered by group
            per_input = scale.view(groups, 1, -1).expand(-1, weight.shape[0] // groups, -1)
            return per_input.reshape(weight.shape[0], -1, *([1] * (weight.ndim - 2)))
        shape = [1] * weight.ndim
        shape[self.op.out_axis] = -1
        return scale.view(shape)

    def pass_through(self, x: Tensor) -> Tensor:
        """The batch norm's forward while merged: a copy, so that in-place operations after it stay harmless."""
        if x is not self.output and not self._same(x):
            raise RuntimeError(
                f"batch norm {self.name!r} follows {type(self.linear).__name__} in registration but not in data flow; "
                "give canonizers=[MergeBatchNorm(pairs={norm name: layer name})] or canonizers=[] for no merging"
            )
        self.output = None
        self.nodes.append(x.grad_fn)
        return x.clone()

    def give(self, output: Tensor) -> Tensor:
        """Note what the merged layer computed; the batch norm must take it before the layer is called again."""
        self.check_taken()
        self.output = output
        return output

    def check_taken(self) -> None:
        """Raise if an output of the merged layer went elsewhere than to its batch norm."""
        if self.output is not None:
            raise RuntimeError(
                f"the layer before batch norm {self.name!r} is called without it too, so the norm can't be merged into "
                "it; pass canonizers=[] or MergeBatchNorm(pairs=...) without this pair"
            )

    def _same(self, x: Tensor) -> bool:
        """A hook on the layer may have handed on a copy of its output."""
        return self.output is not None and x.shape == self.output.shape and torch.equal(x, self.output)
