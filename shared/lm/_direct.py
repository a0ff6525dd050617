"""What the parts of a language model write directly into a logit (Elhage et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_finite, wide
from shared.hooks import TransformerParts, edit, find_module, run_model, transformer_parts
from shared.lm._variants import head_name


@dataclass(frozen=True)
class LogitAttribution:
    """A logit, or a difference of two, as a sum of what each part has written.

    Parameters
    ----------
    input : of the embeddings (and positions), `(B,)`.
    attention : of each block's attention, `(B, L)`, or of each of its heads, `(B, L, H)`.
    mlp : of each MLP, `(B, L)`, or of each of its neurons, `(B, L, N)`.
    bias : of what is the same for any text: biases of the final norm and the unembedding and, of what is split into
        heads or neurons, of its last map. `(B,)`.
    """

    input: Tensor
    attention: Tensor
    mlp: Tensor
    bias: Tensor

    @property
    def total(self) -> Tensor:
        """The logit or the difference, `(B,)`."""
        return self.input + self.attention.flatten(1).sum(1) + self.mlp.flatten(1).sum(1) + self.bias


@torch.no_grad()
def direct_logit_attribution(
    model: nn.Module,
    x: Any,
    target: int | Tensor,
    *,
    foil: int | Tensor | None = None,
    heads: bool = False,
    neurons: bool = False,
    position: int = -1,
) -> LogitAttribution:
    """Splits a logit exactly into what each part wrote into the last residual stream, the norms' scales frozen.

    With the stream `r = sum_c r_c`, the final norm frozen at its scale is affine, `N(r) = w (r - mean r) / s + b` (no
    mean and b in RMS norms), so that `(W_t - W_f) N(r) = sum_c g r_c + const`. Where a part's own output is normed
    before it is added (Gemma 2 and 3), that norm's scale is frozen too for its heads and neurons. A soft cap behind the
    unembedding is left out: what is split is the logit before it.

    Parameters
    ----------
    model : a causal language model of transformers whose norms come before the parts.
    x : token ids `(B, T)`, or a batch with `attention_mask`, padded on the left.
    target : token whose logit is split, one or `(B,)`.
    foil : token whose logit is taken off, one or `(B,)`.
    heads : split attention into heads.
    neurons : split MLPs into neurons.
    position : whose logits.

    Returns
    -------
    `LogitAttribution`, on the CPU, in float64.

    Raises
    ------
    ValueError
        Tokens that aren't in the vocabulary; a position out of range; a model of an unknown family, whose norms come
        behind the parts, or whose parts don't add up to its stream.
    """
    run = _Run(model, x, position, heads, neurons)
    vectors, bias = _unembedding(find_module(model, head_name(model)), run.rows, target, foil)
    g, more = run.through_norm(str(run.parts.final_norm), vectors)
    start = (g * run.input[run.parts.layer("block", 0)]).sum(-1)
    attention, of_heads = run.written("attention_write", "output", g, model.config.num_attention_heads * heads)
    mlp, of_neurons = run.written("mlp_write", "down", g, -1 * neurons)
    found = LogitAttribution(start, attention, mlp, bias + more + of_heads + of_neurons)
    expected = (vectors * run.output[run.parts.final_norm]).sum(-1) + bias
    off = float((found.total - expected).abs().max())
    if not off <= run.tolerance * (1 + float(vectors.norm(dim=1).max() * run.output[run.parts.final_norm].norm())):
        raise ValueError(f"model's parts don't add up to its stream: a logit is off by {off:.2g}; is something hooked?")
    return LogitAttribution(*(value.cpu() for value in (start, attention, mlp, found.bias)))


class _Run:
    """One pass, and of it what the parts took and gave at one position, `(B, …)`."""

    def __init__(self, model: nn.Module, x: Any, position: int, heads: bool, neurons: bool) -> None:
        self.model, self.parts = model, _pre_norm(model)
        self.position, self.shape = position, _shape(model, x, position)
        self.rows, self.layers = self.shape[0], range(len(find_module(model, self.parts.blocks)))
        self.input: dict[str, Tensor] = {}
        self.output: dict[str, Tensor] = {}
        final, split = str(self.parts.final_norm), []
        writes = [self.parts.layer(part, n) for part in ("attention_write", "mlp_write") for n in self.layers]
        for write, last, on in (("attention_write", "output", heads), ("mlp_write", "down", neurons)):
            split += [self.parts.layer(part, n) for part in (write, last) for n in self.layers if on]
        with ExitStack() as stack:
            for kept, names, at in (
                (self.input, [self.parts.layer("block", 0), final, *split], "input"),
                (self.output, [final, *writes], "output"),
            ):
                edits = {name: self._keeper(kept, name) for name in dict.fromkeys(names)}
                stack.enter_context(edit(model, edits, at=at))
            run_model(model, x)
        half = next(model.parameters()).dtype not in (torch.float32, torch.float64)
        self.tolerance = 2e-2 if half else 1e-4

    def _keeper(self, kept: dict[str, Tensor], name: str) -> Any:
        def keep(tensor: Tensor) -> None:
            kept[name] = wide(tensor.reshape(*self.shape, -1)[:, self.position])  # OPT's MLP has one axis for both

        return keep

    def through_norm(self, name: str, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """`g` and c with `vectors · norm(r) = g · r + c` at the scale that this pass has."""
        norm, r, out = find_module(self.model, name), self.input[name], self.output[name]
        centred = isinstance(norm, nn.LayerNorm)
        if centred:
            gain, bias = (torch.ones_like(r[0]) if norm.weight is None else wide(norm.weight)), norm.bias
        else:  # w, whether the family stores it or w - 1: what the norm makes of a large constant
            gain, bias = wide(norm(torch.full_like(next(norm.parameters()), 1e3)[None])[0]), None
        shift = torch.zeros_like(r[0]) if bias is None else wide(bias)
        scaled = gain * (r - r.mean(-1, keepdim=True) if centred else r)
        scale = ((out - shift) * scaled).sum(-1, keepdim=True) / (scaled**2).sum(-1, keepdim=True)
        g = vectors * gain
        return (g - g.mean(-1, keepdim=True) if centred else g) * scale, (vectors * shift).sum(-1)

    def written(self, write: str, last: str, g: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """What a kind of part writes along g, `(B, L)` or split `(B, L, count)` (-1: as fine as it goes); constants."""
        found, constant = [], torch.zeros_like(g[:, 0])
        for n in self.layers:
            name, inside = self.parts.layer(write, n), self.parts.layer(last, n)
            if not count:
                found.append((g * self.output[name]).sum(-1))
                continue
            back, more = (g, constant * 0) if name == inside else self.through_norm(name, g)
            linear = find_module(self.model, inside)
            weight = wide(linear.weight if isinstance(linear, nn.Linear) else linear.weight.T)  # (out, in)
            each = (back @ weight) * self.input[inside]
            found.append(each if count < 0 else each.unflatten(-1, (count, -1)).sum(-1))
            constant = constant + more + (0 if linear.bias is None else back @ wide(linear.bias))
        return torch.stack(found, 1), constant


def _pre_norm(model: nn.Module) -> TransformerParts:
    parts = transformer_parts(model)
    if parts.final_norm is None or parts.post_norm:
        raise ValueError(f"model is a {type(model).__name__}, which norms the stream behind each sum")
    return parts


def _shape(model: nn.Module, x: Any, position: int) -> tuple[int, int]:
    """B and T of the data, once it has been checked."""
    ids = x.get("input_ids") if isinstance(x, Mapping) else x
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point():
        got = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"x must be token ids, integers (B, T), or a batch that holds them as input_ids; got {got}")
    check_finite("x", ids)
    if not -ids.shape[1] <= position < ids.shape[1]:
        raise ValueError(f"position={position} is out of range: x has {ids.shape[1]} tokens")
    return tuple(ids.shape)


def _unembedding(head: nn.Module, rows: int, target: int | Tensor, foil: int | Tensor | None) -> tuple[Tensor, Tensor]:
    """The directions that are read, `(B, D)`, and their bias, `(B,)`."""
    weight, bias = head.weight, head.bias if head.bias is not None else head.weight.new_zeros(len(head.weight))

    def of(argument: str, token: int | Tensor) -> tuple[Tensor, Tensor]:
        ids = torch.as_tensor(token, device=weight.device)
        if ids.is_floating_point() or ids.shape not in ((), (rows,)):
            raise ValueError(f"{argument} must be a token id, or one for each of {rows} rows; got {tuple(ids.shape)}")
        if not 0 <= int(ids.min()) <= int(ids.max()) < len(weight):
            raise ValueError(f"{argument}={token!r} is out of range; accepted: 0 to {len(weight) - 1}")
        ids = ids.expand(rows)
        return wide(weight[ids]), wide(bias[ids])

    one, other = of("target", target), (0.0, 0.0) if foil is None else of("foil", foil)
    return one[0] - other[0], one[1] - other[1]
