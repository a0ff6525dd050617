"""Which units a task needs, by relevance; and how well tasks learnt one after another are kept apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_array, check_choice, check_finite, check_range, check_shape, wide
from shared.lrp import Composite, EpsilonPlusFlat, attribute
from shared.pruning._freeze import unit_layer

RANKINGS = ("signed", "abs")


def sample_relevance(
    model: nn.Module,
    layers: Iterable[str],
    x: Tensor,
    target: Any = None,
    *,
    composite: Composite | None = None,
    batch_size: int | None = None,
) -> dict[str, Tensor]:
    """Relevance of every unit for every row, each layer's scaled to an absolute sum of 1 (as `ChannelConcept` of CRP).

    Parameters
    ----------
    model : any torch module in eval mode.
    layers : names of Linear layers and convolutions.
    x : float `(B, ...)`.
    target : as for `shared.lrp.attribute`; None explains each row's largest logit.
    composite : default `EpsilonPlusFlat()`, as the authors.
    batch_size : rows in one pass, all by default.

    Returns
    -------
    Layer -> `(B, units)`, summed over positions; zero where nothing arrives.

    Raises
    ------
    ValueError
        Bad x or target; an unknown layer, or none.
    """
    names = list(layers)
    if not names:
        raise ValueError("layers is empty; give names of Linear layers or convolutions")
    linear = {name: isinstance(unit_layer(model, name), nn.Linear) for name in names}
    check_finite("x", x)
    rules = composite or EpsilonPlusFlat()
    latent = attribute(model, x, target, composite=rules, record=names, batch_size=batch_size).latent
    units = {
        k: (r.movedim(-1, 1) if linear[k] else r).flatten(2).sum(2) if r.ndim > 2 else r for k, r in latent.items()
    }
    return {name: r / r.abs().sum(1, keepdim=True).clamp(min=torch.finfo(r.dtype).tiny) for name, r in units.items()}


@dataclass(frozen=True)
class Pruned:
    """What `prune_by_relevance` found.

    Attributes
    ----------
    masks : layer -> bool `(units,)`, True where kept.
    accuracy : of the units kept.
    path : (share of units kept, accuracy) of every evaluation in turn; the last may be beyond the tolerance.
    """

    masks: dict[str, Tensor]
    accuracy: float
    path: list[tuple[float, float]]

    @property
    def share(self) -> float:
        """Share of units kept."""
        return sum(int(m.sum()) for m in self.masks.values()) / sum(len(m) for m in self.masks.values())


def prune_by_relevance(
    evaluate: Callable[[dict[str, Tensor]], float],
    scores: Mapping[str, Tensor],
    *,
    tolerance: float = 0.02,
    max_evals: int = 64,
    n_bins: int = 10_000,
    rank_by: str = "signed",
) -> Pruned:
    """Take away the least relevant units, chunk by chunk, until validation accuracy has dropped by `tolerance`.

    As the authors' code: units of all layers compete; a chunk is what falls into one bin of the scores' histogram. Our
    own: neighbouring chunks are joined so that there are at most `max_evals`, and each layer keeps its best unit.

    Parameters
    ----------
    evaluate : masks (layer -> bool, True where kept) -> accuracy in [0, 1] on validation data.
    scores : layer -> relevance `(units,)`, such as the sum of `sample_relevance` over rows.
    tolerance : the drop from the accuracy with all units that is refused.
    max_evals : most chunks, each evaluated once.
    n_bins : of the histogram.
    rank_by : "signed", where what speaks against the task goes first, or "abs".

    Returns
    -------
    `Pruned`, the last state before the drop.

    Raises
    ------
    ValueError
        No scores, or non-finite ones; an accuracy that isn't in [0, 1], as of an empty validation set.
    """
    check_choice("rank_by", rank_by, RANKINGS)
    check_range("tolerance", tolerance, 0.0, 1.0)
    check_range("max_evals", max_evals, 1)
    check_range("n_bins", n_bins, 1)
    if not scores:
        raise ValueError("scores is empty; give layer -> relevance of its units")
    for name, values in scores.items():
        check_array(f"scores[{name!r}]", values, ("units",))
    masks = {name: torch.ones(len(values), dtype=torch.bool) for name, values in scores.items()}
    start = _accuracy(evaluate, masks)
    best, path = start, [(1.0, start)]
    total = sum(len(m) for m in masks.values())
    for chunk in _chunks(scores, rank_by, n_bins, max_evals):
        tried = {name: mask.clone() for name, mask in masks.items()}
        for name, unit in chunk:
            tried[name][unit] = False
        accuracy = _accuracy(evaluate, tried)
        path.append((sum(int(m.sum()) for m in tried.values()) / total, accuracy))
        if start - accuracy >= tolerance - 1e-9 and accuracy < start:
            break
        masks, best = tried, accuracy
    return Pruned(masks, best, path)


def _accuracy(evaluate: Callable[[dict[str, Tensor]], float], masks: dict[str, Tensor]) -> float:
    found = float(evaluate(masks))
    if not 0 <= found <= 1:  # NaN too
        hint = "; is the validation set empty?" if math.isnan(found) else ""
        raise ValueError(f"evaluate returned {found}; an accuracy lies in [0, 1]{hint}")
    return found


def _chunks(scores: Mapping[str, Tensor], rank_by: str, n_bins: int, most: int) -> list[list[tuple[str, int]]]:
    """Units in the order of their going, in at most `most` groups; the best unit of each layer isn't among them."""
    key = {name: wide((v.abs() if rank_by == "abs" else v).detach()).cpu() for name, v in scores.items()}
    units = [(name, unit) for name, v in key.items() for unit in range(len(v)) if unit != int(v.argmax())]
    if not units:
        return []
    value = torch.stack([key[name][unit] for name, unit in units])
    order = value.argsort(stable=True)
    span = (value.max() - value.min()).clamp(min=1e-300)
    bins = ((value[order] - value.min()) / span * n_bins).long().clamp(max=n_bins - 1)
    group = torch.unique_consecutive(bins, return_inverse=True)[1]
    n_groups = int(group.max()) + 1
    group = group * min(most, n_groups) // n_groups
    return [[units[i] for i in order[group == g].tolist()] for g in group.unique().tolist()]


def check_tasks(tasks: Sequence[Sequence[int]], n_classes: int) -> list[list[int]]:
    """The tasks as lists, if every class is in exactly one and each has at least two; else a `ValueError`."""
    found = [list(map(int, task)) for task in tasks]
    if small := [t for t, task in enumerate(found) if len(task) < 2]:
        raise ValueError(f"tasks[{small[0]}] has {len(found[small[0]])} classes; a task needs two to learn anything")
    if sorted(c for task in found for c in task) != list(range(n_classes)):
        raise ValueError(f"tasks={found} must hold each of the {n_classes} classes (columns of logits) once")
    return found


def task_of(tasks: Sequence[Sequence[int]], target: Tensor) -> Tensor:
    """The task that each class belongs to.

    Parameters
    ----------
    tasks : classes of each task, every class 0, …, C−1 in one of them.
    target : classes, int `(n,)`.

    Returns
    -------
    Task numbers, int `(n,)`.

    Raises
    ------
    ValueError
        A task of fewer than two classes; a class that no task has.
    """
    found = check_tasks(tasks, sum(map(len, tasks)))
    of_class = torch.empty(sum(map(len, found)), dtype=torch.long)
    for t, classes in enumerate(found):
        of_class[classes] = t
    return of_class.to(target.device)[_checked_ids("target", target, len(of_class), None)]


def predict_in_task(logits: Tensor, tasks: Sequence[Sequence[int]], chosen: Tensor) -> Tensor:
    """The class with the largest logit among those of the row's task.

    Its accuracy is *task-aware* where `chosen` is the true task (`task_of`), *task-agnostic* where it was recognised.

    Parameters
    ----------
    logits : float `(n, C)`, each task's columns from its own sub-network.
    tasks : classes of each task.
    chosen : the row's task, int `(n,)`.

    Returns
    -------
    Classes, int `(n,)`.

    Raises
    ------
    ValueError
        Bad logits or tasks; an unknown task.
    """
    check_array("logits", logits, ("n", "C"))
    found = check_tasks(tasks, logits.shape[1])
    _checked_ids("chosen", chosen, len(found), len(logits))
    allowed = torch.zeros(len(found), logits.shape[1], dtype=torch.bool, device=logits.device)
    for t, classes in enumerate(found):
        allowed[t, classes] = True
    return logits.masked_fill(~allowed[chosen.to(logits.device)], -math.inf).argmax(1)


def _checked_ids(argument: str, ids: Tensor, count: int, length: int | None) -> Tensor:
    check_shape(argument, ids, (length if length is not None else "n",))
    if not len(ids):
        raise ValueError(f"{argument} is empty; at least one row is needed")
    if ids.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8) or ids.min() < 0 or ids.max() >= count:
        raise ValueError(
            f"{argument} must hold ints from 0 to {count - 1}; got {ids.dtype}, {ids.min()} to {ids.max()}"
        )
    return ids.long()


def forgetting(accuracy: Tensor) -> Tensor:
    """How far accuracy on a task lies below its best so far, mean over the earlier tasks (Chaudhry et al. 2018, eq. 3).

    Parameters
    ----------
    accuracy : `(T, T)`, row: after learning that task, column: on the test data of that task. Entries above the
        diagonal (tasks not yet learnt) aren't read and may be NaN.

    Returns
    -------
    Forgetting after each task from the second on, `(T - 1,)`; negative where later tasks helped.

    Raises
    ------
    ValueError
        Not square, a single task, or non-finite where it is read.
    """
    check_shape("accuracy", accuracy, (len(accuracy), len(accuracy)) if accuracy.ndim else ("T", "T"))
    if len(accuracy) < 2:
        raise ValueError(f"accuracy has shape {tuple(accuracy.shape)}; forgetting needs at least two tasks")
    seen = torch.ones_like(accuracy, dtype=torch.bool).tril()
    check_finite("accuracy", accuracy[seen])
    read = accuracy.masked_fill(~seen, -math.inf)
    drops = [(read[:t, :t].max(0).values - read[t, :t]).mean() for t in range(1, len(accuracy))]
    return torch.stack(drops)
