"""Many variants of one batch, each with another activation replaced, in few passes over a language model.

A variant differs from its base run only behind the layer and from the position where something is replaced. So its row
joins the batch at that layer, only positions from the first replaced one on are run, and the keys and values of those
before come from one recorded run (a causal model's don't change).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_finite, check_range
from shared.hooks import capture, edit, find_module, refuse_training, transformer_parts, wrap_attention

SITES = {  # what is replaced -> the module's part and the side of it
    "stream": ("block", "input"),
    "attention": ("attention_write", "output"),
    "mlp": ("mlp_write", "output"),
    "heads": ("output", "input"),
}
PLAIN = ("eager", "sdpa")  # take any mask
Metric = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Cell:
    """One variant: what is replaced where; `heads` only at that site."""

    layer: int
    places: tuple[int, ...]
    heads: tuple[int, ...] = ()


def check_ids(model: nn.Module, argument: str, ids: Any) -> Tensor:
    """Token ids `(B, T)` that fit the model, on its device."""
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point() or ids.dtype == torch.bool:
        got = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"{argument} must be token ids, integers (B, T) of one length without padding; got {got}")
    check_finite(argument, ids)
    words, context = model.get_input_embeddings().num_embeddings, getattr(model.config, "max_position_embeddings", None)
    if not 0 <= int(ids.min()) <= int(ids.max()) < words:
        raise ValueError(f"{argument} has ids {int(ids.min())} to {int(ids.max())}; accepted: 0 to {words - 1}")
    if context and ids.shape[1] > context:
        raise ValueError(f"{argument} has {ids.shape[1]} tokens; this model's context holds {context}")
    return ids.to(model.get_input_embeddings().weight.device)


class Variants:
    """A language model on one batch, ready for variants of it.

    The recorded keys and values take `2 B T` numbers per key head's dimension and layer.
    """

    def __init__(self, model: nn.Module, ids: Tensor, site: str, *, argument: str) -> None:
        check_choice("site", site, SITES)
        refuse_training(model)
        self.parts = transformer_parts(model)
        self.head = head_name(model)
        if (kind := model.config._attn_implementation) not in PLAIN:
            raise ValueError(f"model's attention is {kind!r}; load it with attn_implementation='sdpa' or 'eager'")
        self.model, self.site, self.ids = model, site, check_ids(model, argument, ids)
        self.n_layers, self.n_heads = len(find_module(model, self.parts.blocks)), model.config.num_attention_heads
        self.seen: dict[nn.Module, tuple[Tensor, Tensor, Tensor | None]] = {}
        with wrap_attention(model, self._record):
            self.logits = self._logits(self.ids, 0)

    def name(self, layer: int) -> str:
        """The module at which this site is replaced."""
        return self.parts.layer(SITES[self.site][0], layer)

    def activations(self, ids: Tensor) -> tuple[list[Tensor], Tensor]:
        """The site's activation at each layer, `(B, T, D)`, of heads `(B, T, H, d)`, and the logits of any batch."""
        names = [self.name(layer) for layer in range(self.n_layers)]
        with capture(self.model, names, at=SITES[self.site][1]) as seen:
            logits = self._logits(ids, 0)
        return [self._shaped(seen[name], ids.shape[1]) for name in names], logits

    def _shaped(self, tensor: Tensor, length: int) -> Tensor:
        width = tensor.shape[-1]
        flat = tensor.reshape(-1, length, width)  # OPT's MLP has batch and tokens in one axis
        return flat.unflatten(-1, (self.n_heads, -1)) if self.site == "heads" else flat

    def _logits(self, ids: Tensor, start: int) -> Tensor:
        """Of the last position, `(rows, V)`, for all rows there are by then; tokens from `start` on are run."""
        places = torch.arange(start, ids.shape[1], device=ids.device)[None]
        with torch.no_grad(), edit(self.model, {self.head: lambda x: x[:, -1:]}, at="input"):
            return self.model(input_ids=ids[:, start:], position_ids=places, use_cache=False).logits[:, -1]

    def _record(self, call: Any, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Any, **options: Any) -> Any:
        self.seen[module] = (k, v, None if mask is None else mask[:1])  # no padding: one row's mask is every row's
        return call(module, q, k, v, mask, **options)

    def run(self, cells: Sequence[Cell], values: Sequence[Tensor], metric: Metric, *, batch_size: int) -> Tensor:
        """The metric of each variant, `(cells, B)`: `values[layer]` is what is put, and broadcasts to the activation.

        Cells of late positions cost less, so those of like positions share a pass of about `batch_size` rows.
        """
        check_range("batch_size", batch_size, 1)
        step = max(1, batch_size // len(self.ids))
        order = sorted(range(len(cells)), key=lambda i: min(cells[i].places))
        found: list[Tensor] = [self.logits] * len(cells)
        for low in range(0, len(order), step):
            chunk = sorted(order[low : low + step], key=lambda i: cells[i].layer)
            logits = self._pass([cells[i] for i in chunk], values)
            for i, one in zip(chunk, logits, strict=True):
                found[i] = row_scores(metric, one)
        return torch.stack(found)

    def _pass(self, cells: list[Cell], values: Sequence[Tensor]) -> Tensor:
        """Logits `(cells, B, V)`, all in one pass; cells come in the order of layers."""
        start = min(min(cell.places) for cell in cells)
        with ExitStack() as stack:
            stack.enter_context(wrap_attention(self.model, self._behind(start)))
            for layer in sorted({cell.layer for cell in cells}):
                here = [cell for cell in cells if cell.layer == layer]
                join, put = self._joining(len(here)), self._putting(here, values[layer], start)
                stack.enter_context(edit(self.model, {self.parts.layer("block", layer): join}, at="input"))
                stack.enter_context(edit(self.model, {self.name(layer): put}, at=SITES[self.site][1]))
            logits = self._logits(self.ids, start).unflatten(0, (-1, len(self.ids)))
        off, size = float((logits[0] - self.logits).abs().max()), float(self.logits.abs().max())
        if not off <= size * (1e-3 if logits.dtype in (torch.float32, torch.float64) else 0.1):
            raise ValueError(f"model differs by {off:.2g} when run from token {start} on: is it causal, is it hooked?")
        return logits[1:]

    def _joining(self, count: int) -> Callable[[Tensor], Tensor]:
        """New rows, which begin as the base's."""
        return lambda hidden: torch.cat([hidden, hidden[: len(self.ids)].repeat(count, 1, 1)])

    def _putting(self, cells: list[Cell], value: Tensor, start: int) -> Callable[[Tensor], Tensor]:
        """The last rows, as many as the base's for each cell, get the cell's values."""
        length = self.ids.shape[1]
        value = value.expand(len(self.ids), length, *value.shape[2:])

        def put(tensor: Tensor) -> Tensor:
            new = self._shaped(tensor.clone(), length - start)
            last = new[-len(self.ids) * len(cells) :].unflatten(0, (len(cells), -1))
            for part, cell in zip(last, cells, strict=True):
                for place in cell.places:
                    at = (slice(None), place - start, list(cell.heads)) if cell.heads else (slice(None), place - start)
                    from_ = (at[0], place, *at[2:])
                    part[at] = value[from_].to(part)
            return new.reshape(tensor.shape)

        return put

    def _behind(self, start: int) -> Callable[..., Any]:
        """Attention of the tokens from `start` on, which sees the recorded ones before."""

        def wrapper(call: Any, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Any, **options: Any) -> Any:
            keys, values, full = self.seen[module]
            if not start:
                return call(module, q, k, v, full, **options)
            count = len(q) // len(self.ids)
            k, v = (
                torch.cat([old[:, :, :start].repeat(count, 1, 1, 1), new], 2) for old, new in ((keys, k), (values, v))
            )
            mask = _causal(k.shape[2], q) if full is None else full
            return call(module, q, k, v, mask[..., start:, :], **options)

        return wrapper


def row_scores(metric: Metric, logits: Tensor) -> Tensor:
    """One number per row, `(B,)`, of logits `(B, V)`."""
    found = metric(logits)
    if not isinstance(found, Tensor) or found.shape != logits.shape[:1]:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"metric must give one number per row, {tuple(logits.shape[:1])}; got {got}")
    return found


def _causal(length: int, like: Tensor) -> Tensor:
    """What a query may see, `(1, 1, T, T)`, to be added to scores."""
    blocked = torch.full((length, length), -torch.inf, dtype=like.dtype, device=like.device)
    return blocked.triu(1)[None, None]


def head_name(model: nn.Module) -> str:
    """Name of the unembedding."""
    found = getattr(model, "get_output_embeddings", lambda: None)()
    names = [name for name, module in model.named_modules() if module is found and found is not None]
    if not names:
        raise ValueError(f"model is a {type(model).__name__} without an unembedding; a causal language model is needed")
    return names[0]
