"""What units of a language model reach on whole texts: the activation of largest size, with its sign (FADE)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_choice, check_range
from shared.hooks import capture, model_device
from shared.lm._start import token_ids


@dataclass(frozen=True)
class Site:
    """Where units are read.

    Parameters
    ----------
    layer : str
        Name of a module whose activation is (B, S, d).
    at : str
        "output" or "input" of the module; a gated MLP's neurons are the input of its last map.
    units : callable, optional
        From activations (…, d) to units (…, k): a choice of neurons, a dictionary's `encode`. By default all d.
    """

    layer: str
    at: str = "output"
    units: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        check_choice("at", self.at, ("output", "input"))


@torch.no_grad()
def peak_activations(
    loaded: Any,
    sites: Site | Sequence[Site],
    texts: Sequence[str],
    *,
    start: str | None = "auto",
    longest: int | None = None,
    batch_size: int = 32,
) -> Tensor:
    """Of every text and unit the value of largest magnitude over the tokens, with its sign, in one pass over the texts.

    A start token is put in front and not looked at: many units are huge there whatever follows. Nor is padding.

    Parameters
    ----------
    loaded : with `.model` and `.tokenizer`, as `zoo.load_model` gives
        A causal language model; its head isn't run.
    sites : Site or sequence of Site
        Where to look; the units of several stand side by side.
    texts : sequence of str
    start : str, optional
        As for `start_token`.
    longest : int, optional
        Tokens of a text that are read, without the start token. By default all.
    batch_size : int

    Returns
    -------
    Tensor, shape (n, k)
        On the CPU, float32.

    Raises
    ------
    ValueError
        For no texts, or one without a token; more tokens than the model's context.
    """
    check_range("batch_size", batch_size, 1)
    sites = [sites] if isinstance(sites, Site) else list(sites)
    rows, skipped = _tokens(loaded, texts, start, longest)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    model, parts = loaded.model, []
    inner = getattr(model, "base_model", model)
    for low in range(0, len(order), batch_size):
        batch, real = _padded([rows[i] for i in order[low : low + batch_size]], skipped, model_device(model))
        with ExitStack() as stack:
            seen = [stack.enter_context(capture(model, site.layer, at=site.at)) for site in sites]
            inner(batch, use_cache=False)  # padding stands behind, where a causal model doesn't look
        found = [_peak(one[site.layer], real, site.units) for one, site in zip(seen, sites)]
        parts.append(torch.cat(found, 1).cpu())
    out = torch.empty(len(rows), parts[0].shape[1])
    out[order] = torch.cat(parts)
    return out


def _tokens(loaded: Any, texts: Sequence[str], start: str | None, longest: int | None) -> tuple[list[list[int]], int]:
    """Ids of each text, and how many stand in front of its words."""
    first = len(token_ids(loaded.tokenizer, "", start=start))
    rows = [token_ids(loaded.tokenizer, text, start=start) for text in texts]
    rows = rows if longest is None else [row[: first + longest] for row in rows]
    if not rows or min(map(len, rows)) <= first:
        raise ValueError("texts must be non-empty, and each must have a token to look at")
    context = getattr(loaded.model.config, "max_position_embeddings", None)
    if context is not None and max(map(len, rows)) > context:
        raise ValueError(
            f"texts: the longest has {max(map(len, rows))} tokens, the model's context is {context}; give `longest`"
        )
    return rows, first


def _padded(rows: list[list[int]], skipped: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (B, S), and which of them are looked at."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [row[0]] * (longest - len(row)) for row in rows], device=device)
    place, lengths = torch.arange(longest), torch.tensor([len(row) for row in rows])
    return ids, ((place >= skipped) & (place < lengths[:, None])).to(device)


def _peak(x: Tensor, real: Tensor, units: Callable[[Tensor], Tensor] | None) -> Tensor:
    values = (x if units is None else units(x)).float()
    size = values.abs().masked_fill(~real[..., None], -1.0)
    return values.gather(1, size.argmax(1, keepdim=True))[:, 0]
