"""What single activations are worth to a language model's answer: patched from another run, or heads taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared._checks import UnknownNameError, check_array, check_shape
from shared.hooks import transformer_parts
from shared.lm._variants import Cell, Metric, Variants, check_ids, row_scores

Places = Sequence[int | Sequence[int]]
VALUES = ("zero", "mean")


@dataclass(frozen=True)
class PatchingGrid:
    """The metric where one activation comes from the clean run and all else from the corrupted one.

    Parameters
    ----------
    values : `(L, P, B)`, of heads `(L, P, H, B)`: layers, positions (or groups of them), pairs.
    clean : the clean run's metric, `(B,)`.
    corrupt : the corrupted run's.
    """

    values: Tensor
    clean: Tensor
    corrupt: Tensor

    @property
    def recovered(self) -> Tensor:
        """Share of the gap between corrupted (0) and clean (1) that each patch closes, of means over pairs."""
        gap = (self.clean - self.corrupt).mean()
        if not gap.abs() > 1e-12:
            raise ValueError("corrupt leaves the metric as it is on average: there is no gap to close")
        return (self.values - self.corrupt).mean(-1) / gap


def logit_difference(right: Tensor, wrong: Tensor) -> Metric:
    """The metric of patching: the right token's logit less the wrong one's.

    Parameters
    ----------
    right : token of each row, `(B,)`.
    wrong : the other, `(B,)`.

    Returns
    -------
    Function from logits `(B, V)` to `(B,)`.

    Raises
    ------
    ValueError
        Tensors of other shapes or not of whole numbers.
    """
    for name, tokens in (("right", right), ("wrong", wrong)):
        check_array(name, tokens, ("B",) if name == "right" else tuple(right.shape))
        if tokens.is_floating_point():
            raise ValueError(f"{name} must be token ids; got {tokens.dtype}")

    def metric(logits: Tensor) -> Tensor:
        one, other = (logits.gather(1, tokens.to(logits.device)[:, None])[:, 0] for tokens in (right, wrong))
        return one - other

    return metric


def patching_grid(
    model: nn.Module,
    clean: Tensor,
    corrupt: Tensor,
    metric: Metric,
    *,
    site: str = "stream",
    positions: Places | None = None,
    batch_size: int = 128,
) -> PatchingGrid:
    """Activation patching at every layer and position (Meng et al. 2022; conventions of Heimersheim & Nanda 2024).

    In the corrupted run one activation is replaced by the clean run's, and what the model then says is scored. With
    `clean` and `corrupt` exchanged it is noising in place of denoising. The grid costs one run of each and, for every
    cell, the layers above it from its position on, in batches.

    Parameters
    ----------
    model : a causal language model of transformers.
    clean : token ids `(B, T)`, without padding.
    corrupt : of the same shape, row by row the counterfactual.
    metric : of logits `(B, V)` at the last position, `(B,)`; `logit_difference` makes one.
    site : "stream", what enters a block; "attention" or "mlp", what these write into the stream; "heads", what each
        head gives before the output projection.
    positions : which, each a number or several that are patched together (`[range(T)]`: all); each alone by default.
    batch_size : rows in one pass, about.

    Returns
    -------
    `PatchingGrid`, on the CPU.

    Raises
    ------
    ValueError
        Ids that don't fit the model or each other; an unknown site; positions out of range; a metric that doesn't give
        one number per row; a model in training mode, of an unknown family, or whose attention takes no mask.
    """
    runs = Variants(model, corrupt, site, argument="corrupt")
    clean = check_ids(model, "clean", clean)
    check_shape("clean", clean, tuple(runs.ids.shape))
    groups = _groups(positions, clean.shape[1])
    values, logits = runs.activations(clean)
    heads = [(head,) for head in range(runs.n_heads)] if site == "heads" else [()]
    cells = [Cell(layer, places, some) for layer in range(runs.n_layers) for places in groups for some in heads]
    found = runs.run(cells, values, metric, batch_size=batch_size).cpu()
    shape = (runs.n_layers, len(groups), *([len(heads)] if site == "heads" else []))
    return PatchingGrid(
        found.unflatten(0, shape), row_scores(metric, logits).cpu(), row_scores(metric, runs.logits).cpu()
    )


def _groups(positions: Places | None, length: int) -> list[tuple[int, ...]]:
    given = range(length) if positions is None else positions
    groups = [(place,) if isinstance(place, int) else tuple(place) for place in given]
    if not groups or not all(group and all(-length <= place < length for place in group) for group in groups):
        raise ValueError(f"positions={positions!r}; accepted: places from {-length} to {length - 1}, or groups of them")
    return [tuple(sorted({place % length for place in group})) for group in groups]


def head_groups(model: nn.Module) -> list[tuple[int, ...]]:
    """Query heads that share a key head (grouped queries; Ainslie et al. 2023).

    Parameters
    ----------
    model : of transformers.

    Returns
    -------
    One tuple per key head; without grouped queries every head is alone.

    Raises
    ------
    ValueError
        A model whose family isn't known.
    """
    transformer_parts(model)
    heads = model.config.num_attention_heads
    width = heads // (getattr(model.config, "num_key_value_heads", None) or heads)
    return [tuple(range(start, start + width)) for start in range(0, heads, width)]


def head_means(model: nn.Module, x: Tensor) -> Tensor:
    """What each head gives on average, before the output projection.

    Parameters
    ----------
    model : a causal language model of transformers.
    x : token ids `(B, T)`, without padding, over which the mean goes.

    Returns
    -------
    `(L, H, d)`.

    Raises
    ------
    ValueError
        As for `patching_grid`.
    """
    runs = Variants(model, x, "heads", argument="x")
    return torch.stack([given.mean((0, 1)) for given in runs.activations(runs.ids)[0]]).cpu()


def head_ablation(
    model: nn.Module,
    x: Tensor,
    metric: Metric,
    *,
    values: str | Tensor = "zero",
    grouped: bool = False,
    batch_size: int = 128,
) -> Tensor:
    """How much the metric falls without each head, all heads in a few passes.

    A head's output is replaced at every position; the output projection's bias stays (as in `hooks.ablate_heads`, the
    context for heads chosen by hand).

    Parameters
    ----------
    model : a causal language model of transformers.
    x : token ids `(B, T)`, without padding.
    metric : as for `patching_grid`.
    values : what takes the head's place: "zero", "mean" over this batch's rows and positions, or of other texts
        `(L, H, d)`, as `head_means` gives them.
    grouped : take out the query heads that share a key head together (`head_groups`).
    batch_size : rows in one pass, about.

    Returns
    -------
    `(L, H, B)`, with `grouped` `(L, key heads, B)`; positive where the head helps the metric.

    Raises
    ------
    ValueError
        As for `patching_grid`; other words or shapes of values.
    """
    runs = Variants(model, x, "heads", argument="x")
    groups = head_groups(model) if grouped else [(head,) for head in range(runs.n_heads)]
    everywhere = tuple(range(runs.ids.shape[1]))
    cells = [Cell(layer, everywhere, heads) for layer in range(runs.n_layers) for heads in groups]
    found = runs.run(cells, _instead(runs, values), metric, batch_size=batch_size)
    return (row_scores(metric, runs.logits) - found).cpu().unflatten(0, (runs.n_layers, len(groups)))


def _instead(runs: Variants, values: str | Tensor) -> list[Tensor]:
    """Of each layer what its heads give instead, `(1, 1, H, d)`."""
    given = runs.activations(runs.ids)[0]
    if isinstance(values, Tensor):
        check_array("values", values, (runs.n_layers, *given[0].shape[2:]))
        return list(values.to(given[0])[:, None, None])
    if values not in VALUES:
        raise UnknownNameError(f"values={values!r} is unknown; accepted: 'zero', 'mean', or a tensor (L, H, d)")
    means = [one.mean((0, 1), keepdim=True) for one in given]
    return means if values == "mean" else [torch.zeros_like(one) for one in means]
