"""Where training batches come from: tensors in memory or on disk, or a model as it runs. Every stream can be resumed.

A stream is an iterator of `(B, d_in)` tensors, or of pairs with `(B, d_out)` targets for transcoders, with
`state_dict()` and `load_state_dict()`. Its order depends on its own seed only.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_range
from shared.hooks import capture

Batch = Tensor | tuple[Tensor, Tensor]
TOKENS = ("all", "cls", "patches")
DTYPES = {"float32": torch.float32, "float16": torch.float16}


class TensorStream:
    """Batches of the rows of `x` `(n, d)` (and `y`), shuffled anew each epoch; an epoch's incomplete batch is left out.

    Args:
        x: activations, in memory or mapped (`open_activations`).
        batch_size: rows per batch, at most n.
        y: transcoder targets, row by row.
        seed: of the order.
    """

    def __init__(self, x: Tensor, batch_size: int, *, y: Tensor | None = None, seed: int = 0) -> None:
        if x.ndim != 2:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (n, d): flatten tokens first")
        check_range("batch_size", batch_size, 1, len(x))
        if y is not None and len(y) != len(x):
            raise ValueError(f"y has {len(y)} rows; x has {len(x)}")
        self.x, self.y, self.batch_size = x, y, batch_size
        self.generator = torch.Generator().manual_seed(seed)
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
        """Go on from `state_dict()`."""
        self.generator.set_state(state["rng"])
        self._start_epoch()
        self._at = int(state["at"])


class ActivationStream:
    """Activations of a model while it runs, gathered over several of its batches and shuffled.

    Blocks of `buffer_batches` model batches are shuffled and given out whole (what doesn't fill a batch is dropped), so
    a resumed stream needs only the block's number, not its content.

    Args:
        model: any torch module; it runs without gradients in the mode it is in.
        hook: module whose activation is encoded, `(B, D)`, `(B, T, D)`, …
        loader: model batches, iterable again and again in the same order: tensors, tuples (their first element is
            taken) or mappings (keyword arguments).
        batch_size: rows per batch.
        target_hook: transcoders: the module whose output is predicted; then `hook`'s *input* is encoded.
        tokens: of `(B, T, D)`: "all", "cls" (the first), "patches" (all but the first), or a function of it.
        buffer_batches: model batches per block.
        max_norm_multiple: drop rows whose norm exceeds this multiple of the block's median (attention sinks).
        forward: how to run the model on a batch; by default as said under `loader`.
        seed: of the order.
    """

    def __init__(
        self,
        model: nn.Module,
        hook: str,
        loader: Iterable[Any],
        batch_size: int,
        *,
        target_hook: str | None = None,
        tokens: str | Callable[[Tensor], Tensor] = "all",
        buffer_batches: int = 8,
        max_norm_multiple: float | None = None,
        forward: Callable[[nn.Module, Any], Any] | None = None,
        seed: int = 0,
    ) -> None:
        check_range("batch_size", batch_size, 1)
        check_range("buffer_batches", buffer_batches, 1)
        if not callable(tokens):
            check_choice("tokens", tokens, TOKENS)
        self.model, self.hook, self.loader, self.batch_size = model, hook, loader, batch_size
        self.target_hook, self.tokens, self.buffer_batches = target_hook, tokens, buffer_batches
        self.max_norm_multiple, self.forward = max_norm_multiple, forward or run_model
        self.generator = torch.Generator().manual_seed(seed)
        self._rng, self._position, self._given = self.generator.get_state(), 0, 0
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
        return batch[0] if self.target_hook is None else batch

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
        with ExitStack() as stack:
            at = "output" if self.target_hook is None else "input"
            stores = [(stack.enter_context(capture(self.model, self.hook, at=at)), self.hook)]
            if self.target_hook is not None:
                stores.append((stack.enter_context(capture(self.model, self.target_hook)), self.target_hook))
            self.forward(self.model, batch)
        return tuple(select_tokens(store[name], self.tokens).flatten(0, -2) for store, name in stores)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: the block's place in the loader, the generator before it, the batches given from it."""
        return {"rng": self._rng, "position": self._position, "given": self._given}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`: the loader is read (not the model run) up to the block, which is made again."""
        self.generator.set_state(state["rng"])
        self._rng, self._position, self._given = state["rng"], int(state["position"]), int(state["given"])
        self._batches, self._block = self._from(self._position), None
        if self._given:
            self._block = self._fill()


def run_model(model: nn.Module, batch: Any) -> Any:
    """`model(batch)`; of tuples and lists the first element, mappings as keyword arguments; on the model's device."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if isinstance(batch, Mapping):
        return model(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()})
    return model((batch[0] if isinstance(batch, tuple | list) else batch).to(device))


def select_tokens(x: Tensor, tokens: str | Callable[[Tensor], Tensor]) -> Tensor:
    """The tokens of `(B, T, D)` that `tokens` names; "all" also takes `(B, D)`."""
    if callable(tokens):
        return tokens(x)
    if tokens != "all" and x.ndim != 3:
        raise ValueError(f"tokens={tokens!r} needs activations of shape (B, T, D); got {tuple(x.shape)}")
    return {"all": x, "cls": x[:, :1], "patches": x[:, 1:]}[tokens]


def write_activations(path: str | Path, parts: Iterable[Tensor], dtype: str = "float32") -> Path:
    """Store activations `(n_i, d)` one after the other in `path` (raw numbers), with `path.json` beside it.

    Written under temporary names, so what is there is whole. Returns the path for `open_activations`.
    """
    check_choice("dtype", dtype, DTYPES)
    path, rows, width = Path(path), 0, None
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                if part.ndim != 2 or (width is not None and part.shape[1] != width):
                    raise ValueError(f"parts must be (n, {width or 'd'}); got {tuple(part.shape)}")
                width, rows = part.shape[1], rows + len(part)
                file.write(np.ascontiguousarray(part.detach().cpu().numpy().astype(dtype)).tobytes())
        if not rows:
            raise ValueError("parts holds no activations")
        sidecar = path.with_name(path.name + ".json")
        sidecar.unlink(missing_ok=True)
        os.replace(name, path)
        part_name = sidecar.with_name(f".{sidecar.name}-part")
        part_name.write_text(json.dumps({"shape": [rows, width], "dtype": dtype}), encoding="utf-8")
        os.replace(part_name, sidecar)
    finally:
        Path(name).unlink(missing_ok=True)
    return path


def open_activations(path: str | Path) -> Tensor:
    """Activations written by `write_activations` as a tensor `(n, d)` mapped from disk (read what you touch)."""
    path = Path(path)
    sidecar = path.with_name(path.name + ".json")
    if not path.is_file() or not sidecar.is_file():
        raise FileNotFoundError(f"{path} and {sidecar.name} must both exist; write_activations makes them")
    described = json.loads(sidecar.read_text(encoding="utf-8"))
    (rows, width), dtype = described["shape"], DTYPES[check_choice("dtype", described["dtype"], DTYPES)]
    expected = rows * width * dtype.itemsize
    if path.stat().st_size != expected:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; {sidecar.name} says {expected}")
    return torch.from_file(str(path), shared=False, size=rows * width, dtype=dtype).view(rows, width)
