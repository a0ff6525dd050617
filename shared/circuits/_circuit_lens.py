"""Where a transcoder feature's activation on a text comes from (CircuitLens, Golimblevskaia et al. 2026)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_finite, check_range, wide
from shared.circuits._weight_lens import gain, mlp_norm_name, through_norm
from shared.hooks import (
    attention_modules,
    capture_attention,
    edit,
    find_module,
    run_model,
    transformer_parts,
    wrap_attention,
)
from shared.sae import SparseDict


@dataclass(frozen=True)
class FeatureParts:
    """A feature's pre-activation at the last token, as a sum of what was written into the stream in front of it.

    Parameters
    ----------
    embedding : of the last token's embedding (and position), `(B,)`.
    attention : of every head and every token it reads, `(B, blocks, H, T)`.
    features : block -> of every feature of that block's transcoder, `(B, d_sae)`.
    rest : of what the transcoders don't explain of each earlier MLP, with their constants, `(B, blocks - 1)`.
    bias : the encoder's bias, and what the norm and the attentions' output maps add for any text, `(B,)`.
    """

    embedding: Tensor
    attention: Tensor
    features: dict[int, Tensor]
    rest: Tensor
    bias: Tensor

    @property
    def total(self) -> Tensor:
        """The pre-activation, `(B,)`."""
        explained = sum((one.sum(1) for one in self.features.values()), torch.zeros_like(self.bias))
        return self.embedding + self.attention.flatten(1).sum(1) + explained + self.rest.sum(1) + self.bias


@torch.no_grad()
def feature_parts(
    model: nn.Module, transcoders: Mapping[int, SparseDict], ids: Tensor, layer: int, latent: int | Tensor
) -> FeatureParts:
    """Splits features' pre-activations at the last token exactly, with attention patterns and norm scales frozen.

    With g the encoder as a direction of the stream (at the scale that the norm has on this text), head h of block l
    gives `pattern(t, s) v[s] · (W_O^T g)` for a source token s, an upstream feature i `a_i (d_i · g)`.

    Parameters
    ----------
    model : Module
        A transformers language model of a pre-norm family, in eval mode.
    transcoders : mapping of int to SparseDict
        Block -> transcoder of its MLP; of `layer` and of all blocks in front.
    ids : Tensor
        `(B, T)` token ids, without padding.
    layer : int
        The feature's block.
    latent : int or Tensor
        The feature, one or `(B,)`.

    Returns
    -------
    FeatureParts
        In float64.

    Raises
    ------
    ValueError
        Ids that aren't in the vocabulary, a block without transcoder, a latent that isn't there, a family with norms
        behind its parts, or parts that don't add up to what the encoder gives.
    """
    rows = _checked(model, transcoders, ids, layer, latent)
    run = _Run(model, transcoders[layer], ids, layer)
    encoder, bias = transcoders[layer].W_enc.T[rows], transcoders[layer].b_enc[rows]
    g, constant = run.direction(wide(encoder))
    attention, more = run.attention(g)
    features, rest = {}, []
    for below in range(layer):
        one = transcoders[below]
        codes = wide(one.encode(run.output[run.parts.layer("mlp_norm", below)].to(one.dtype)))
        features[below] = codes * (g @ wide(one.W_dec).T)
        rest.append((g * run.output[run.parts.layer("mlp_write", below)]).sum(1) - features[below].sum(1))
    start = (g * run.input[run.parts.layer("block", 0)]).sum(1)
    left = torch.stack(rest, 1) if rest else start.new_zeros(len(ids), 0)
    found = FeatureParts(start, attention, features, left, wide(bias) + constant + more)
    expected = (wide(encoder) * run.output[run.norm]).sum(1) + wide(bias)
    off, size = (found.total - expected).abs().max(), (encoder.norm(dim=1) * run.output[run.norm].norm(dim=1)).max()
    if not float(off) <= run.tolerance * (1 + float(size)):
        raise ValueError(f"model's parts don't add up to its stream: off by {float(off):.2g}; is something hooked?")
    return found


def _checked(model: nn.Module, transcoders: Mapping[int, SparseDict], ids: Any, layer: int, latent: Any) -> Tensor:
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point() or ids.dtype == torch.bool:
        got = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"ids must be token ids, integers (B, T) of one length; got {got}")
    check_finite("ids", ids)
    words = model.get_input_embeddings().num_embeddings
    if not 0 <= int(ids.min()) <= int(ids.max()) < words:
        raise ValueError(f"ids has {int(ids.min())} to {int(ids.max())}; accepted: 0 to {words - 1}")
    if missing := [n for n in range(layer + 1) if n not in transcoders]:
        raise ValueError(f"transcoders has none of block {missing[0]}; layer={layer} needs those of 0 to {layer}")
    for below in range(layer + 1):
        mlp_norm_name(model, transcoders[below], below)
    rows = torch.as_tensor(latent, device=ids.device)
    if rows.is_floating_point() or rows.shape not in ((), (len(ids),)):
        raise ValueError(f"latent must be a latent, or one for each of {len(ids)} rows; got {tuple(rows.shape)}")
    check_range("latent", int(rows.min()), 0)
    check_range("latent", int(rows.max()), None, transcoders[layer].cfg.d_sae - 1)
    return rows.expand(len(ids))


class _Run:
    """One pass, and of it what the parts took and gave at the last token, `(B, D)`."""

    def __init__(self, model: nn.Module, transcoder: SparseDict, ids: Tensor, layer: int) -> None:
        self.model, self.layer, self.parts = model, layer, transformer_parts(model)
        self.norm = mlp_norm_name(model, transcoder, layer)
        self.rows, self.length = ids.shape
        self.input: dict[str, Tensor] = {}
        self.output: dict[str, Tensor] = {}
        self.values: dict[str, Tensor] = {}
        blocks = range(layer + 1)
        given = [self.parts.layer(part, n) for part in ("mlp_norm", "mlp_write") for n in blocks]
        with ExitStack() as stack:
            for kept, names, at in (
                (self.input, [self.parts.layer("block", 0), self.norm], "input"),
                (self.output, given, "output"),
            ):
                stack.enter_context(edit(model, {name: self._keeper(kept, name) for name in names}, at=at))
            known = {module: name for name, module in attention_modules(model).items()}
            stack.enter_context(wrap_attention(model, self._values_of(known)))
            self.patterns = stack.enter_context(capture_attention(model, -1))
            run_model(getattr(model, "base_model", model), ids)  # the unembedding would cost more than a few blocks
        half = next(model.parameters()).dtype not in (torch.float32, torch.float64)
        self.tolerance = 2e-2 if half else 1e-4

    def _keeper(self, kept: dict[str, Tensor], name: str) -> Callable[[Tensor], None]:
        def keep(tensor: Tensor) -> None:
            kept[name] = wide(tensor.reshape(self.rows, self.length, -1)[:, -1])

        return keep

    def _values_of(self, names: Mapping[nn.Module, str]) -> Callable[..., Any]:
        def keep(call: Callable[..., Any], module: nn.Module, *given: Any, **options: Any) -> Any:
            self.values[names[module]] = wide(given[2])  # behind queries and keys
            return call(module, *given, **options)

        return keep

    def direction(self, encoder: Tensor) -> tuple[Tensor, Tensor]:
        """`g` and c with `encoder · norm(r) = g · r + c` at the scale that this pass has."""
        norm, r, out = find_module(self.model, self.norm), self.input[self.norm], self.output[self.norm]
        bias = getattr(norm, "bias", None)
        shift = torch.zeros_like(out) if bias is None else wide(bias).expand_as(out)
        centred = r - r.mean(1, keepdim=True) if isinstance(norm, nn.LayerNorm) else r
        scaled = gain(norm) * centred
        scale = ((out - shift) * scaled).sum(1, keepdim=True) / (scaled**2).sum(1, keepdim=True)
        return through_norm(norm, encoder) * scale, (encoder * shift).sum(1)

    def attention(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Of each block, head and source token, `(B, blocks, H, T)`; and what the output maps' biases give."""
        found, constant = [], torch.zeros_like(g[:, 0])
        for n in range(self.layer + 1):
            name, linear = self.parts.layer("attention", n), find_module(self.model, self.parts.layer("output", n))
            pattern, values = wide(self.patterns[name][0]), self.values[name]
            weight = wide(linear.weight if isinstance(linear, nn.Linear) else linear.weight.T)  # (out, in)
            back = (g @ weight).unflatten(1, (pattern.shape[1], -1))
            shared = values.repeat_interleave(pattern.shape[1] // values.shape[1], 1)  # heads that share keys
            found.append(pattern * torch.einsum("bhsd,bhd->bhs", shared, back))
            constant = constant + (0 if linear.bias is None else g @ wide(linear.bias))
        return torch.stack(found, 1), constant
