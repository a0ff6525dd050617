"""Where training batches come from: tensors in memory or on disk, or a model as it runs. Every stream can be resumed.

A stream is an iterator of `(B, d_in)` tensors, or of pairs with `(B, d_out)` targets for transcoders, with
`state_dict()` and `load_state_dict()`. Its order depends on its own generator only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_finite, check_range
from shared.hooks import AxisFinder, capture, run_model

Batch = Tensor | tuple[Tensor, Tensor]
Tokens = str | Callable[[Tensor], Tensor]
TOKENS = ("all", "cls", "patches")


class TensorStream:
    """Batches of the rows of `x` (and `y`), shuffled anew each epoch; an epoch's incomplete batch is left out.

    Parameters
    ----------
    x : Tensor
        Activations `(n, d)`, in memory or mapped (`open_activations`).
    batch_size : int
        Rows per batch, at most n.
    y : Tensor, optional
        Transcoder targets, row by row.
    generator : torch.Generator, optional
        Of the order, on the CPU; by default seeded with 0.
    """

    def __init__(
        self, x: Tensor, batch_size: int, *, y: Tensor | None = None, generator: torch.Generator | None = None
    ) -> None:
        if x.ndim != 2:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (n, d): flatten tokens first")
        check_range("batch_size", batch_size, 1, len(x))
        if y is not None and len(y) != len(x):
            raise ValueError(f"y has {len(y)} rows; x has {len(x)}")
        self.x, self.y = x, y
        self.batch_size = batch_size
        self.generator = generator or torch.Generator().manual_seed(0)
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._rng = self.generator.get_state()
        self._order = torch.randperm(len(self.x), generator=self.generator)
        self._at = 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._at + self.batch_size > len(self.x):
            self._start_epoch()
        rows = self._order[self._at : self._at + self.batch_size].to(self.x.device)
        self._at += self.batch_size
        return self.x[rows] if self.y is None else (self.x[rows], self.y[rows])

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: the generator's state at the epoch's start and the rows given since."""
        return {"rng": self._rng, "at": self._at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Parameters
        ----------
        state : mapping
            Of a stream of the same arguments.
        """
        self.generator.set_state(state["rng"])
        self._start_epoch()
        self._at = int(state["at"])


class ActivationStream:
    """Activations of a model while it runs, gathered over several of its batches and shuffled.

    Blocks of `buffer_batches` model batches are shuffled and given out whole (what doesn't fill a batch is dropped), so
    a resumed stream needs only the block's number, not its content.

    Parameters
    ----------
    model : Module
        It runs without gradients in the mode it is in.
    layer : str
        Module whose activation is encoded.
    loader : iterable
        Model batches, iterable again and again in the same order: tensors, tuples (their first element is taken) or
        mappings (keyword arguments).
    batch_size : int
        Rows per batch.
    target_layer : str, optional
        Transcoders: the module whose output is predicted; then `layer`'s *input* is encoded.
    tokens : str or callable
        Of `(B, T, D)`: "all", "cls" (the first), "patches" (all but the first), or a function of the activation that
        gives `(…, D)`.
    channel_axis : int, optional
        Axis of the activation that is encoded, where the modules don't tell it (`hooks.find_channel_axis`).
    buffer_batches : int
        Model batches per block.
    max_norm_multiple : float, optional
        Drop rows whose norm exceeds this multiple of the block's median (attention sinks).
    forward : callable, optional
        How to run the model on a batch, `forward(model, batch)`; by default `hooks.run_model`.
    generator : torch.Generator, optional
        Of the order, on the CPU; by default seeded with 0.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        loader: Iterable[Any],
        batch_size: int,
        *,
        target_layer: str | None = None,
        tokens: Tokens = "all",
        channel_axis: int | None = None,
        buffer_batches: int = 8,
        max_norm_multiple: float | None = None,
        forward: Callable[[nn.Module, Any], Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_range("batch_size", batch_size, 1)
        check_range("buffer_batches", buffer_batches, 1)
        if not callable(tokens):
            check_choice("tokens", tokens, TOKENS)
        self.model = model
        self.layer = layer
        self.target_layer = target_layer
        self.loader = loader
        self.batch_size, self.buffer_batches = batch_size, buffer_batches
        self.tokens = tokens
        layers = [layer] if target_layer is None else [layer, target_layer]
        self._axes = {name: AxisFinder(model, name, channel_axis=channel_axis) for name in layers}
        self.max_norm_multiple = max_norm_multiple
        self.forward = forward or run_model
        self.generator = generator or torch.Generator().manual_seed(0)
        self._rng = self.generator.get_state()  # before the current block was shuffled
        self._position = 0  # of the block's first batch in the loader
        self._given = 0  # batches given from the block
        self._block: tuple[Tensor, ...] | None = None
        self._batches = self._from(0)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._block is not None and (self._given + 1) * self.batch_size > len(self._block[0]):
            self._block, self._given = None, 0
            self._position += self.buffer_batches
            self._rng = self.generator.get_state()
        if self._block is None:
            self._block = self._fill()
        rows = slice(self._given * self.batch_size, (self._given + 1) * self.batch_size)
        self._given += 1
        batch = tuple(part[rows] for part in self._block)
        return batch[0] if self.target_layer is None else batch

    def _from(self, position: int) -> Iterator[Any]:
        """The loader's batches over and over, from the `position`-th on."""
        seen = 0
        while True:
            before = seen
            for batch in self.loader:
                seen += 1
                if seen > position:
                    yield batch
            if seen == before:
                raise ValueError("loader is empty (or can't be iterated again)")

    def _fill(self) -> tuple[Tensor, ...]:
        parts = [self._activations(next(self._batches)) for _ in range(self.buffer_batches)]
        block = [torch.cat(rows) for rows in zip(*parts, strict=True)]
        if self.max_norm_multiple is not None:
            norms = block[0].norm(dim=1)
            keep = norms <= self.max_norm_multiple * norms.median()
            block = [rows[keep] for rows in block]
        if len(block[0]) < self.batch_size:
            raise ValueError(f"batch_size={self.batch_size} is more than a block's {len(block[0])} rows")
        order = torch.randperm(len(block[0]), generator=self.generator).to(block[0].device)
        return tuple(rows[order] for rows in block)

    @torch.no_grad()
    def _activations(self, batch: Any) -> tuple[Tensor, ...]:
        at = "output" if self.target_layer is None else "input"
        with ExitStack() as stack:
            found = [(self.layer, stack.enter_context(capture(self.model, self.layer, at=at)))]
            if self.target_layer is not None:
                found.append((self.target_layer, stack.enter_context(capture(self.model, self.target_layer))))
            self.forward(self.model, batch)
        return tuple(self._rows(layer, store[layer]) for layer, store in found)

    def _rows(self, layer: str, activation: Tensor) -> Tensor:
        """Rows `(n, d)` of the module's activation."""
        if self.tokens == "all":
            activation = activation.movedim(self._axes[layer](activation), -1)
        return select_tokens(activation, tokens=self.tokens).flatten(0, -2)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: the block's place in the loader, the generator before it, the batches given from it."""
        return {"rng": self._rng, "position": self._position, "given": self._given}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`: the loader is read (not the model run) up to the block, which is made again.

        Parameters
        ----------
        state : mapping
            Of a stream of the same arguments.
        """
        self.generator.set_state(state["rng"])
        self._rng = state["rng"]
        self._position = int(state["position"])
        self._given = int(state["given"])
        self._batches = self._from(self._position)
        self._block = None
        if self._given:
            self._block = self._fill()


def select_tokens(x: Tensor, *, tokens: Tokens = "all") -> Tensor:
    """Some tokens of an activation.

    Parameters
    ----------
    x : Tensor
        `(B, T, D)`; with "all" of any shape.
    tokens : str or callable
        "all", "cls" (the first), "patches" (all but the first), or a function of x.

    Returns
    -------
    Tensor
        `(B, t, D)`.

    Raises
    ------
    ValueError
        Another name, or another number of axes.
    """
    if callable(tokens):
        return tokens(x)
    check_choice("tokens", tokens, TOKENS)
    check_finite("x", x)
    if tokens != "all" and x.ndim != 3:
        raise ValueError(f"x has shape {tuple(x.shape)}; tokens={tokens!r} needs (B, T, D)")
    return x if tokens == "all" else x[:, :1] if tokens == "cls" else x[:, 1:]
