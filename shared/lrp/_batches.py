"""One call of an explainer as several, each on some rows of x, with whatever else has one entry per row cut alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_range
from shared.lrp._inputs import EMBEDS, PIXELS, TOKENS, Inputs
from shared.lrp._targets import rows_of, weights_of

TEXT = (TOKENS, EMBEDS, "attention_mask", "position_ids", "token_type_ids")
IMAGE = (PIXELS, "bool_masked_pos")


@dataclass(frozen=True)
class Part:
    """Some rows of a call: which of how many, and the arguments cut to them.

    Attributes
    ----------
    rows : the rows of the whole call.
    total : how many rows that has; None if this part is the whole call.
    x, target, position : the call's arguments for these rows.
    """

    rows: slice
    total: int | None
    x: Any
    target: Any
    position: int | Tensor | None


def parts_of(
    model: nn.Module,
    x: Any,
    target: Any = None,
    *,
    batch_size: int | None,
    position: int | Tensor | None = None,
    embed: bool = False,
    wrt: str | None = None,
    logits: Callable[[Part], Tensor] | None = None,
) -> Iterator[Part]:
    """The call in parts of `batch_size` rows; a single part, as it came, without.

    Parameters
    ----------
    model : the explained model. Where it has a tower for text and one for images, the other tower's input stays whole.
    x, target, position, embed, wrt : as for `attribute`.
    batch_size : rows per part, or None.
    logits : gives the explained logits of a part; needed for targets that are callables of the logits.

    Yields
    ------
    `Part`s in the order of the rows.
    """
    if batch_size is None:
        yield Part(slice(None), None, x, target, position)
        return
    check_range("batch_size", batch_size, 1)
    whole = Inputs(model, x, embed=embed, wrt=wrt)
    total = len(whole.value)
    parts = []
    for start in range(0, total, batch_size):
        rows = slice(start, min(start + batch_size, total))
        place = rows_of("position", position, rows, total)
        parts.append(Part(rows, total, rows_of_input(model, x, whole, rows), None, place))
    if logits is not None and any(callable(t) and not hasattr(t, "rows") for t in _listed(target)):
        seen = torch.cat([logits(part) for part in parts])  # such a target may look at other rows
        target = _mapped(lambda t: weights_of(t, seen) if callable(t) else t, target)
    for part in parts:
        cut = _mapped(lambda t, rows=part.rows: rows_of("target", t, rows, total), target)
        yield Part(part.rows, total, part.x, cut, part.position)


def _listed(target: Any) -> list[Any]:
    return list(target) if isinstance(target, list | tuple) else [target]


def _mapped(function: Callable[[Any], Any], target: Any) -> Any:
    return [function(t) for t in target] if isinstance(target, list | tuple) else function(target)


def rows_of_input(model: nn.Module, x: Any, whole: Inputs, rows: slice | Tensor) -> Any:
    """Some rows of a call's input.

    Parameters
    ----------
    model : the explained model.
    x : as for `attribute`.
    whole : `Inputs` of x.
    rows : a slice or an index `(N,)`.

    Returns
    -------
    As x, but for these rows; what has none is as it was.
    """
    if not isinstance(x, Mapping):
        return x[rows]
    towers = hasattr(model, "get_text_features") and hasattr(model, "get_image_features")
    other = () if not towers else TEXT if whole.key in IMAGE else IMAGE
    size = len(whole.value)

    def has_rows(key: str, value: Any) -> bool:
        return key not in other and isinstance(value, Tensor) and value.ndim > 0 and len(value) == size

    return {key: value[rows] if has_rows(key, value) else value for key, value in x.items()}
