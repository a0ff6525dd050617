"""Recording the relevance of latent activations, and masking the coefficient for conditional relevance (CRP)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared.hooks import edit, find_module

Condition = Mapping[str, Any]


class Probes:
    """Taps on module outputs: `latent()` gives relevance where asked, `condition` masks what flows on.

    The activation is kept and a copy handed on, so that in-place operations downstream can't spoil it, and so that the
    coefficient seen here is the one that arrives at the module's output.
    """

    def __init__(self, model: nn.Module, record: Iterable[str], conditions: Sequence[Condition]) -> None:
        self.record = [record] if isinstance(record, str) else list(record)
        self.conditioned = list(dict.fromkeys(name for condition in conditions for name in condition))
        for name in [*self.record, *self.conditioned]:
            find_module(model, name)
        self.model, self.condition = model, {}
        self.values: dict[str, Tensor] = {}
        self.coefficients: dict[str, Tensor] = {}
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
        if name in self.condition:
            c = c * channel_mask(name, self.condition[name], c)
        if name in self.record:
            self.coefficients[name] = c
        return c

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


def channel_axis(activation: Tensor) -> int:
    """Axis of the units: 1 for feature maps `(B, C, H, W)`, the last for tokens `(B, S, D)` and vectors `(B, D)`."""
    return 1 if activation.ndim >= 4 else activation.ndim - 1


def channel_mask(name: str, chosen: Any, activation: Tensor) -> Tensor:
    """1 at the chosen units, 0 elsewhere, broadcastable to the activation.

    `chosen` is an int, a list of ints, or a tensor mask (bool or float) that broadcasts to the activation.
    """
    if isinstance(chosen, Tensor) and (chosen.dtype == torch.bool or chosen.is_floating_point()):
        return chosen.to(activation)
    axis = channel_axis(activation)
    units = torch.as_tensor([chosen] if isinstance(chosen, int) else chosen, device=activation.device, dtype=torch.long)
    size = activation.shape[axis]
    if units.ndim != 1 or (units.numel() and (int(units.min()) < -size or int(units.max()) >= size)):
        raise ValueError(f"conditions[{name!r}]={chosen!r} is out of range for {size} units")
    mask = torch.zeros(size, dtype=activation.dtype, device=activation.device)
    mask[units] = 1
    shape = [1] * activation.ndim
    shape[axis] = size
    return mask.view(shape)
