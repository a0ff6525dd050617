"""Decoding by contrasting layers (DoLa; Chuang et al. 2024) inside transformers' `generate` (its core dropped it).

Other rivals of guided decoding need no code: context-aware decoding (CAD; Shi et al. 2024), `(1 + a) z(with context) -
a z(without)`, is `generate(…, guidance_scale=1 + a, negative_prompt_ids=…)`, whose log-probabilities differ from it by
a constant; activation steering is `with hooks.steer(model, {layer: direction}): model.generate(…)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_array, check_finite, check_range, check_shape
from shared.hooks import find_module, transformer_parts


def dola_logits(logits: Tensor, early: Tensor, *, plausible: float = 0.1) -> Tensor:
    """The last layer's log-probabilities against an early one's (DoLa, eq. 4 to 6).

    Parameters
    ----------
    logits : Tensor, shape (B, V)
        Minus infinity for tokens that another logits processor has excluded.
    early : Tensor, shape (L, B, V)
        What the unembedding reads off some earlier layers. For each row the one is taken whose distribution is
        farthest from the last one's, by the Jensen-Shannon divergence.
    plausible : float
        Tokens with less than this share of the largest probability are excluded.

    Returns
    -------
    Tensor, shape (B, V)
        Differences of log-probabilities, minus infinity for excluded tokens.

    Raises
    ------
    ValueError
        For tensors of other shapes or that aren't finite, or `plausible` outside [0, 1].
    """
    check_shape("logits", logits, ("B", "V"))
    check_finite("logits", logits.masked_fill(logits == -torch.inf, 0.0))
    check_array("early", early, ("L", *logits.shape))
    check_range("plausible", plausible, 0.0, 1.0)
    late, early = logits.float().log_softmax(-1), early.float().log_softmax(-1)
    p, q = late.exp(), early.exp()
    divergence = sum((torch.xlogy(r, r) - torch.xlogy(r, (p + q) / 2)).sum(-1) for r in (p, q))  # twice JSD, (L, B)
    chosen = early[divergence.argmax(0), torch.arange(len(late), device=late.device)]
    implausible = p < plausible * p.amax(-1, keepdim=True)
    return (late - chosen).masked_fill(implausible, -torch.inf)


class LayerContrast:
    """Logits processor of DoLa; made by `dola`.

    Parameters
    ----------
    readers : list of dict
        For each early layer, a place where its last position's state is kept.
    read : callable
        From states (B, d) to logits (B, V).
    plausible : float
        As for `dola_logits`.
    """

    def __init__(self, readers: list[dict[str, Tensor]], read: Any, *, plausible: float) -> None:
        self.readers, self.read, self.plausible = readers, read, plausible

    @torch.no_grad()
    def early(self) -> Tensor:
        """What the last forward pass's early layers would have said, (L, B, V)."""
        return torch.stack([self.read(kept["state"]).float() for kept in self.readers])

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The contrasted logits."""
        return dola_logits(scores, self.early().to(scores.device), plausible=self.plausible)


@contextmanager
def dola(model: nn.Module, layers: Sequence[int], *, plausible: float = 0.1) -> Iterator[LayerContrast]:
    """Within the context, `model.generate(…, logits_processor=[contrast])` decodes by DoLa.

    Parameters
    ----------
    model : a causal language model of transformers
    layers : sequence of int
        The blocks to contrast with, from 0; DoLa takes every second one of the lower or of the upper half.
    plausible : float
        As for `dola_logits`.

    Yields
    ------
    LayerContrast

    Raises
    ------
    ValueError
        For no layers, or one that the model doesn't have.
    """
    parts = transformer_parts(model)
    count = len(find_module(model, parts.blocks))
    if not layers or not all(0 <= number < count for number in layers):
        raise ValueError(f"layers={list(layers)!r}; accepted: at least one block from 0 to {count - 1}")
    norm, head = find_module(model, str(parts.final_norm)), model.get_output_embeddings()
    readers: list[dict[str, Tensor]] = [{} for _ in layers]

    def keeper(kept: dict[str, Tensor]) -> Any:
        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            kept["state"] = (output[0] if isinstance(output, tuple) else output)[:, -1].detach()

        return keep

    with ExitStack() as stack:
        for number, kept in zip(layers, readers, strict=True):
            block = find_module(model, parts.layer("block", number))
            stack.callback(block.register_forward_hook(keeper(kept)).remove)
        yield LayerContrast(readers, lambda state: head(norm(state)), plausible=plausible)
