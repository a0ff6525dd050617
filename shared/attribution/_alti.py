"""ALTI-Logit: a transformer's logit split into input tokens by one forward pass, without a gradient.

Every attention block adds to the residual stream of position t one vector per source position j,
`T_tj = sum_h A^h_tj v^h_j W_O^h`. Two things are done with them (Ferrando et al. 2023, "Explaining How Transformers Use
Context to Build Predictions"; extended to Llama blocks by Arras et al. 2025, arXiv 2502.15886):

- their effect on the explained logit, `Delta^l_j = g^l . T^l_nj`, where n is the explained position and `g^l` the
  unembedding row pulled back through the norms, whose statistics are constants;
- how much of a block's output at t comes from position j (ALTI, Ferrando et al. 2022),
  `c_tj = max(0, |y_t|_1 - |y_t - T_tj|_1)` with rows scaled to sum 1; the product over blocks leads back to the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice
from shared.attribution._alti_models import TRANSFORM, LinearNorm, Record, matrix, names_of, record, value_bias, wide
from shared.hooks import TransformerParts, find_module
from shared.lrp.engine import Part, check_ready, frozen, parts_of, weights_of

NORMS = (1, 2)


@dataclass
class AltiLogit:
    """Result of `alti_logit`: everything the explained logit consists of.

    Attributes
    ----------
    tokens : contributions of the input tokens `(B, S)`.
    updates : the same before they are led back through the blocks below: by block and position, `(B, L, S)`.
    initial : what the explained position's own embedding gives through the residual stream alone `(B,)`.
    mlps : what each block's MLP gives `(B, L)`.
    biases : constants: output biases, the norms' biases, the unembedding's `(B,)`.
    mixing : ALTI's matrices, rows (queries) sum to 1, `(B, L, S, S)`.
    error : how far the source vectors miss the block's actual attention output, relative, `(B, L)`.
    output : logits at the explained position, `(B, V)`.
    explained : the explained logit or weighted sum of logits `(B,)`.
    """

    tokens: Tensor
    updates: Tensor
    initial: Tensor
    mlps: Tensor
    biases: Tensor
    mixing: Tensor
    error: Tensor
    output: Tensor
    explained: Tensor

    @property
    def gap(self) -> Tensor:
        """`explained` less all its parts `(B,)`: zero up to rounding."""
        return self.explained - (self.tokens.sum(1) + self.initial + self.mlps.sum(1) + self.biases)

    @property
    def rollout(self) -> Tensor:
        """Share of input token i (column) in what position j (row) holds after each block, `(B, L, S, S)`."""
        flows = [self.mixing[:, 0]]
        for mixing in self.mixing[:, 1:].unbind(1):
            flows.append(mixing @ flows[-1])
        return torch.stack(flows, 1)


def alti_logit(
    model: nn.Module,
    x: Any,
    target: Any = None,
    *,
    position: int | Tensor | None = None,
    linear: bool = False,
    norm: int = 1,
    batch_size: int | None = None,
) -> AltiLogit:
    """Contributions of the input tokens to a logit, or to a contrast of logits, by ALTI-Logit.

    Parameters
    ----------
    model : in eval mode: transformers' `LlamaForCausalLM`, Mistral, Qwen2, Qwen3 (pre-norm, RMSNorm), `GPT2LMHeadModel`
        (pre-norm, LayerNorm) or `BertForMaskedLM` (post-norm). It comes back as it was.
    x : token ids `(B, S)`, or a mapping (`input_ids` or `inputs_embeds`, `attention_mask`, …).
    target : int or LongTensor `(B,)` of vocabulary ids, float weights `(B, V)` or a callable `logits -> weights`
        (`contrast`, `zero_mean`); None explains each row's largest logit.
    position : the position explained; default each row's last attended token. For masked language models, the mask.
    linear : keep constants of the values (the norm's bias through W_V, b_V) out of the tokens and among `biases`, as
        the authors' linear variant; the default, their affine one, leaves them with their source.
    norm : 1 (the paper's) or 2: the norm in ALTI's `c_tj`.
    batch_size : rows in one pass, all by default; the numbers are the same for any.

    Returns
    -------
    `AltiLogit`; half-precision models are decomposed in float32.

    Raises
    ------
    UnsupportedModule
        Another architecture or norm.
    ValueError
        A model in training mode with dropout or batch norm.
    ValueError, TypeError
        Bad input, a target out of range, a prompt longer than the model's context.

    Notes
    -----
    Memory grows with `batch_size` S² D, held for one block at a time. Post-norm blocks are our reconstruction: the
    stream's norms are linear maps with constant statistics, and the activation between BERT's last block and its
    unembedding acts as its slope `f(z) / z`, so that the sum stays exact.
    """
    check_choice("norm", norm, NORMS)
    check_ready(model)
    names = names_of(model)

    def logits(part: Part) -> Tensor:
        return record(model, names, part.x, part.position).logits

    with frozen(model), torch.no_grad():
        parts = [
            _decompose(model, names, record(model, names, part.x, part.position), part.target, linear, norm)
            for part in parts_of(model, x, target, batch_size=batch_size, position=position, logits=logits)
        ]
    if len(parts) == 1:
        return parts[0]
    return AltiLogit(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(AltiLogit)))


class _Functional:
    """The explained logit as a linear function `g . stream + constant` of the stream at the explained position.

    It starts at the unembedding and is pulled down through the blocks.
    """

    def __init__(self, model: Any, names: TransformerParts, run: Record, weights: Tensor) -> None:
        self.at = run.at
        head = model.get_output_embeddings()
        self.g = wide(weights @ head.weight.to(weights))  # (B, D)
        bias = getattr(head, "bias", None)
        self.constant = torch.zeros_like(self.g[:, 0]) if bias is None else wide(weights @ bias.to(weights))
        if names.final_norm is not None:
            self.through(LinearNorm(find_module(model, names.final_norm), run.states[-1], names.final_norm))
        if transform := TRANSFORM.get(type(model).__name__):
            self._through_transform(find_module(model, transform), run.states[-1][self.at], transform)

    def __call__(self, x: Tensor) -> Tensor:
        """What `x` (B, S, D) contributes at the explained position `(B,)`."""
        return (self.g * x[self.at]).sum(-1)

    def through(self, norm: LinearNorm, at: Any = None) -> None:
        """To before a norm that the stream passes."""
        self.set_apart(norm.bias)
        self.g = norm.transpose(self.g, self.at if at is None else at)

    def set_apart(self, bias: Tensor | None) -> None:
        """Count a bias that is added to the stream among the constants."""
        if bias is not None:
            self.constant = self.constant + self.g @ bias.to(self.g)

    def _through_transform(self, transform: Any, state: Tensor, name: str) -> None:
        """BERT's head before the unembedding, dense - activation - norm, the activation as its slope f(z) / z."""
        z = wide(transform.dense(state.to(transform.dense.weight)))
        activated = wide(transform.transform_act_fn(z))
        self.through(LinearNorm(transform.LayerNorm, activated, f"{name}.LayerNorm"), at=...)
        self.g = self.g * torch.where(z == 0, 0.5, activated / torch.where(z == 0, 1.0, z))
        self.set_apart(transform.dense.bias)
        self.g = self.g @ matrix(transform.dense, self.g).T


def _decompose(model: Any, names: TransformerParts, run: Record, target: Any, linear: bool, norm: int) -> AltiLogit:
    weights = weights_of(target, run.logits)
    functional = _Functional(model, names, run, weights)
    parts: list[tuple[Tensor, ...]] = []
    flow: Tensor | None = None
    for n in reversed(range(len(run.attended))):
        block = find_module(model, names.layer("block", n))
        projection = find_module(block, names.output)
        middle, first = run.states[n] + run.attended[n], None
        if not names.post_norm:
            mlp = functional(run.mlps[n])
        else:
            first = LinearNorm(find_module(block, names.attention_norm), middle, names.attention_norm)
            middle = first(middle) + first.bias
            functional.through(LinearNorm(find_module(block, names.mlp_norm), middle + run.mlps[n], names.mlp_norm))
            mlp = functional(run.mlps[n])
            functional.through(first)
        functional.set_apart(projection.bias)
        vectors = source_vectors(run.patterns[n], run.values[n], projection)  # (B, S, S, D)
        update = torch.einsum("bsd,bd->bs", vectors[run.at], functional.g)
        if linear:
            constant = _constant_part(names, block, projection, run, n, functional.g)
            update, functional.constant = update - constant, functional.constant + constant.sum(1)
        error = _miss(vectors, projection.bias, run.attended[n])
        mixing = mix(vectors, run.states[n], middle, run.patterns[n], first, norm)
        flow = update if flow is None else torch.einsum("bs,bsi->bi", flow, mixing) + update
        parts.append((update, mlp, mixing, error))
    updates, mlps, mixing, error = (torch.stack(part[::-1], 1) for part in zip(*parts))
    explained = wide((weights * run.logits).sum(-1))
    return AltiLogit(
        flow, updates, functional(run.states[0]), mlps, functional.constant, mixing, error, run.logits, explained
    )


def source_vectors(pattern: Tensor, values: Tensor, projection: Any) -> Tensor:
    """`T_tj = sum_h A^h_tj v^h_j W_O^h`, `(B, S, S, D)` from `(B, H, S, S)` and `(B, H, S, d)`."""
    weight = matrix(projection, values).unflatten(0, (values.shape[1], values.shape[3]))  # (H, d, D)
    carried = torch.einsum("bhsk,hkd->bhsd", values, weight)
    return torch.einsum("bhts,bhsd->btsd", pattern, carried)


def mix(
    vectors: Tensor, stream: Tensor, middle: Tensor, pattern: Tensor, first: LinearNorm | None, norm: int
) -> Tensor:
    """ALTI's matrix of one block `(B, S, S)`: rows are non-negative and sum to 1. Overwrites `vectors`.

    A row in which no vector brings the others nearer to the sum goes to the position itself. `vectors` are `T_tj`, to
    which the stream is added where t = j; `stream` is what enters the block `(B, S, D)`, `middle` what stands before
    the MLP `(B, S, D)`, behind the block's `first` norm if there is one.
    """
    vectors.diagonal(dim1=1, dim2=2).add_(stream.transpose(1, 2))
    vectors = vectors if first is None else first(vectors)
    distance = torch.linalg.vector_norm(vectors.sub_(middle[:, :, None]), norm, dim=-1)
    near = (torch.linalg.vector_norm(middle, norm, dim=-1)[:, :, None] - distance).clamp(min=0)
    eye = torch.eye(near.shape[-1], dtype=near.dtype, device=near.device)
    near = near * ((pattern != 0).any(1) | eye.bool())  # exactly nothing from where attention can't look
    total = near.sum(-1, keepdim=True)
    return torch.where(total > 0, near / torch.where(total > 0, total, 1.0), eye)


def _constant_part(names: TransformerParts, block: Any, projection: Any, run: Record, n: int, g: Tensor) -> Tensor:
    """Effect on the logit of the values' constant part, by source position `(B, S)`."""
    bias, values = value_bias(names, block), run.values[n]
    if bias is None:
        return torch.zeros_like(values[:, 0, :, 0])
    heads = bias.to(values).unflatten(0, (-1, values.shape[3]))
    heads = heads.repeat_interleave(values.shape[1] // len(heads), 0)  # heads of keys and values shared by groups
    weight = matrix(projection, values).unflatten(0, heads.shape)
    pattern = run.patterns[n][run.at[0], :, run.at[1]]  # (B, H, S)
    return torch.einsum("bhs,hk,hkd,bd->bs", pattern, heads, weight, g)


def _miss(vectors: Tensor, bias: Tensor | None, attended: Tensor) -> Tensor:
    """Relative distance of the summed source vectors from what attention added to the stream `(B,)`."""
    miss = vectors.sum(2) - attended + (0 if bias is None else bias.to(vectors))
    return miss.flatten(1).norm(dim=1) / attended.flatten(1).norm(dim=1)
