"""Recording the relevance of latent activations, and masking the coefficient for conditional relevance (CRP)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared.hooks import edit, find_channel_axis, find_module
from shared.lrp._batches import Part

Condition = Mapping[str, Any]


class Probes:
    """Taps on module outputs: `latent()` gives relevance where asked, `condition` masks what flows on.

    The activation is kept and a copy handed on, so that in-place operations downstream can't spoil it, and so that the
    coefficient seen here is the one that arrives at the module's output.
    """

    def __init__(
        self,
        model: nn.Module,
        record: Iterable[str] | str,
        conditions: Sequence[Condition],
        channel_axis: int | Mapping[str, int] | None,
        part: Part,
    ) -> None:
        self.record = [record] if isinstance(record, str) else list(record)
        self.conditioned = list(dict.fromkeys(name for condition in conditions for name in condition))
        for name in [*self.record, *self.conditioned]:
            find_module(model, name)
        self.model, self.channel_axis, self.part = model, channel_axis, part
        self.condition: Condition = {}
        self.values: dict[str, Tensor] = {}
        self.coefficients: dict[str, Tensor] = {}
        self.reached: set[str] = set()
        self.open = False

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Install the taps."""
        names = dict.fromkeys([*self.record, *self.conditioned])
        self.open = True
        with edit(self.model, {name: self._tap(name) for name in names}):
            yield

    def _tap(self, name: str) -> Any:
        def tap(activation: Tensor) -> Tensor | None:
            if not self.open or not activation.requires_grad:
                return None  # a recomputation under gradient checkpointing
            if name in self.values:
                raise ValueError(f"module {name!r} runs more than once in a forward pass; record one that runs once")
            self.values[name] = activation.detach()
            out = activation.clone()
            out.register_hook(lambda c: self._pull(name, c))
            return out

        return tap

    def _pull(self, name: str, c: Tensor) -> Tensor:
        self.reached.add(name)
        if name in self.condition:
            c = c * self._mask(name, self.condition[name], c)
        if name in self.record:
            self.coefficients[name] = c
        return c

    def _mask(self, name: str, chosen: Any, activation: Tensor) -> Tensor:
        """1 at the chosen channels, 0 elsewhere, broadcastable to the activation."""
        if isinstance(chosen, Tensor) and (chosen.dtype == torch.bool or chosen.is_floating_point()):
            rows = chosen.ndim == activation.ndim and chosen.shape[0] == self.part.total  # one mask per row of the call
            return (chosen[self.part.rows] if rows else chosen).to(activation)
        given = self.channel_axis
        axis = given.get(name) if isinstance(given, Mapping) else given
        return channel_mask(
            name, chosen, activation, find_channel_axis(self.model, name, activation, channel_axis=axis)
        )

    def check_reached(self) -> None:
        """Raise `ValueError` if the last backward pass never came to a conditioned layer: it masked nothing."""
        missed = [name for name in self.condition if name not in self.reached]
        if missed:
            raise ValueError(f"conditions name layers that relevance doesn't come to: {', '.join(missed)}")
        self.reached.clear()

    def latent(self) -> dict[str, Tensor]:
        """Name -> relevance `activation * coefficient` of the last backward pass, float32 or wider."""
        missing = [name for name in self.record if name not in self.values]
        if missing:
            raise ValueError(f"record names modules that did not run or depend on no input: {', '.join(missing)}")
        zero = [name for name in self.record if name not in self.coefficients]
        self.coefficients.update({name: torch.zeros_like(self.values[name]) for name in zero})
        found = {name: times(self.values[name], self.coefficients[name]) for name in self.record}
        self.coefficients.clear()
        return found


def times(x: Tensor, c: Tensor) -> Tensor:
    """`x * c` in at least float32 (half precision would round relevance sums)."""
    return x.float() * c.float() if x.dtype in (torch.float16, torch.bfloat16) else x * c


def channel_mask(name: str, chosen: int | Sequence[int] | Tensor, activation: Tensor, axis: int) -> Tensor:
    """1 at the chosen channels on `axis`, 0 elsewhere, broadcastable to the activation."""
    units = torch.as_tensor([chosen] if isinstance(chosen, int) else chosen, device=activation.device, dtype=torch.long)
    size = activation.shape[axis]
    if units.ndim != 1 or (units.numel() and (int(units.min()) < -size or int(units.max()) >= size)):
        raise ValueError(f"conditions[{name!r}]={chosen!r} is out of range for {size} channels")
    mask = torch.zeros(size, dtype=activation.dtype, device=activation.device)
    mask[units] = 1
    shape = [1] * activation.ndim
    shape[axis] = size
    return mask.view(shape)
