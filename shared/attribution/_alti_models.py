"""What ALTI-Logit reads off a transformer: the names of its parts, its norms as linear maps, one recorded run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared.hooks import TransformerParts, capture, find_module, padded_positions, transformer_parts
from shared.lrp.engine import (
    EMBEDS,
    RMS_NORMS,
    TOKENS,
    AttentionTap,
    Inputs,
    last_positions,
    norm_gain,
    output_tensor,
    unsupported,
)

FAMILIES = (  # whose norms and values the decomposition knows
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "GPT2LMHeadModel",
    "BertForMaskedLM",
)
TRANSFORM = {"BertForMaskedLM": "cls.predictions.transform"}  # between the last block and the unembedding


def names_of(model: nn.Module) -> TransformerParts:
    """The names of the model's parts; `UnsupportedModule` for families that the decomposition doesn't know."""
    name = type(model).__name__
    if name not in FAMILIES:
        raise unsupported("ALTI-Logit", None, name, FAMILIES)
    return transformer_parts(model)


def value_bias(names: TransformerParts, block: Any) -> Tensor | None:
    """The constant part of a block's values (Hkv * d,), or None."""
    value = find_module(block, names.value)
    if names.value != names.query:
        return value.bias
    width = value.weight.shape[0]  # GPT-2: queries, keys and values side by side, behind a norm with a bias
    norm = find_module(block, names.attention_norm)
    return norm.bias @ value.weight[:, -width:] + value.bias[-width:]


class LinearNorm:
    """A LayerNorm or RMSNorm with the statistic of its actual input `x` held constant: a linear map plus `bias`.

    The map is `gamma * (v - mean(v)) / sigma(x)`; an RMSNorm doesn't centre.
    """

    def __init__(self, module: Any, x: Tensor, name: str) -> None:
        self.centres = isinstance(module, nn.LayerNorm)
        if not self.centres and type(module).__name__ not in RMS_NORMS:
            raise unsupported("the normalisation", module, name, ("LayerNorm", *RMS_NORMS))
        eps = module.eps if hasattr(module, "eps") else module.variance_epsilon
        variance = self._centred(x).pow(2).mean(-1, keepdim=True)
        self.scale = norm_gain(module).to(x) * torch.rsqrt(variance + eps)  # as x: (..., D)
        bias = getattr(module, "bias", None)
        self.bias = x.new_zeros(x.shape[-1]) if bias is None else bias.to(x)

    def _centred(self, v: Tensor) -> Tensor:
        return v - v.mean(-1, keepdim=True) if self.centres else v

    def __call__(self, v: Tensor) -> Tensor:
        """The linear map of `v`, in the shape of x or with further axes before the channels."""
        extra = v.ndim - self.scale.ndim
        return self._centred(v) * self.scale[(..., *[None] * extra, slice(None))]

    def transpose(self, g: Tensor, at: Any = ...) -> Tensor:
        """The transposed map of `g`, for the rows `at` of x."""
        return self._centred(g * self.scale[at])


@dataclass
class Record:
    """One forward pass, float32 at least. Lists have one entry per block."""

    states: list[Tensor]  # what enters the block (B, S, D), and what leaves the last one
    attended: list[Tensor]  # what attention adds to the stream (B, S, D)
    mlps: list[Tensor]  # what the MLP adds to the stream (B, S, D)
    patterns: list[Tensor]  # attention weights (B, H, S, S)
    values: list[Tensor]  # (B, H, S, d)
    logits: Tensor  # (B, V) at the explained positions
    at: tuple[Tensor, Tensor]  # row and position of what is explained


@torch.no_grad()
def record(model: nn.Module, names: TransformerParts, x: Any, position: int | Tensor | None) -> Record:
    """Run the model once and keep what ALTI-Logit needs."""
    inputs = Inputs(model, x)
    named = {inputs.key or (TOKENS if inputs.tokens else EMBEDS): inputs.value, **inputs.kwargs}
    kwargs = padded_positions(model, named)
    numbers = range(len(find_module(model, names.blocks)))
    blocks, attended, mlps, attentions = (
        [names.layer(part, n) for n in numbers] for part in ("block", "attention_write", "mlp_write", "attention")
    )
    last_only = position is None and "logits_to_keep" in inputs.accepts
    last_only = last_only and (inputs.mask is None or bool(inputs.mask[:, -1].all()))
    tap = AttentionTap()
    with (
        tap.watching(model, tap.weights),
        capture(model, blocks, at="input") as entering,
        capture(model, [blocks[-1], *attended, *mlps]) as leaving,
    ):
        outputs = model(**kwargs, **({"logits_to_keep": 1} if last_only else {}))
    logits = output_tensor(outputs, None)
    positions = last_positions(entering[blocks[0]], inputs.mask, position)
    rows = torch.arange(len(positions), device=positions.device)
    modules = [find_module(model, name) for name in attentions]
    return Record(
        states=[*(wide(entering[b]) for b in blocks), wide(leaving[blocks[-1]])],
        attended=[wide(leaving[name]) for name in attended],
        mlps=[wide(leaving[name]) for name in mlps],
        patterns=[wide(tap.patterns[m][0]) for m in modules],
        values=[wide(tap.patterns[m][1]) for m in modules],
        logits=logits[rows, torch.full_like(positions, -1) if last_only else positions],
        at=(rows, positions),
    )


def wide(x: Tensor) -> Tensor:
    """float32 at least: the decomposition subtracts nearly equal norms."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def matrix(linear: Any, like: Tensor) -> Tensor:
    """Weight of a `Linear` or of transformers' `Conv1D` as (in, out), in the dtype of `like`."""
    weight = linear.weight.T if isinstance(linear, nn.Linear) else linear.weight
    return weight.detach().to(like)
