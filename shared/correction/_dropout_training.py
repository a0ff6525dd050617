"""Training on inputs whose relevant parts are hidden: maps of the network as it stands, and the loop around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from shared import hooks
from shared._checks import check_finite, check_range
from shared.correction._input_dropout import InputDropout
from shared.lrp import AnyLinear, AvgPool, Composite, Epsilon, Flat, Norm, attribute

Maps = Callable[[nn.Module, Tensor, Tensor], Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]


def reldrop_composite(*, epsilon: float = 1e-3) -> Composite:
    """The rules RelDrop's code explains with: Flat at the input layer, Epsilon in all others, batch norm merged.

    (The code names it `epsilon_zplus`, but no z+ rule is in it.)

    Parameters
    ----------
    epsilon : stabilizer, >= 0.

    Returns
    -------
    The composite.
    """
    return Composite([(AvgPool, Norm()), (AnyLinear, Epsilon(epsilon))], first_map=[(AnyLinear, Flat())])


def training_relevance(model: nn.Module, x: Tensor, y: Tensor, *, composite: Composite | None = None) -> Tensor:
    """Maps of the true classes by the network as it stands in the midst of training (RelDrop, arXiv 2505.21595).

    One forward and one backward pass in eval mode, each map summing to 1 up to what biases keep; parameters, their
    gradients and running statistics are untouched, and every module gets its mode back.

    Parameters
    ----------
    model : in any mode.
    x : (B, C, …), images or points, finite.
    y : (B,) int64, true classes.
    composite : the rules; default `reldrop_composite()`.

    Returns
    -------
    (B, …), summed over channels, without gradients.
    """
    _check(x, y)
    with _evaluating(model):
        found = attribute(model, x, y, composite=composite or reldrop_composite(), init="one")
    return found.relevance.sum(1)


def _check(x: Tensor, y: Tensor) -> None:
    check_finite("x", x)
    if y.shape != (len(x),):
        raise ValueError(f"y has shape {tuple(y.shape)} for {len(x)} inputs in x; expected one label per input")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while; a part that was frozen before stays so after."""
    modes = {m: m.training for m in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def occlude(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    dropout: InputDropout,
    *,
    maps: Maps = training_relevance,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A training batch with parts hidden; maps are computed only for the inputs that are changed.

    Parameters
    ----------
    model : in any mode; not run where the dropout needs no relevance.
    x : (B, C, …), finite, as the network gets them: after augmentation and normalisation.
    y : (B,) int64, true classes.
    dropout : what is hidden, and how often.
    maps : model, x and y to relevance (B, …).
    generator : of the dropout's draws, on the CPU.

    Returns
    -------
    x itself where no input is changed, else a copy.
    """
    _check(x, y)
    chosen = dropout.choose(len(x), generator=generator).to(x.device)
    if not bool(chosen.any()):
        return x
    some = x[chosen]
    relevance = maps(model, some, y[chosen]) if dropout.needs_relevance else None
    changed = x.clone()
    changed[chosen] = dropout(some, relevance, generator=generator)
    return changed


@hooks.graph_mode()
def fit_with_dropout(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    dropout: InputDropout | None = None,
    epochs: int = 20,
    lr: float = 0.1,
    batch_size: int = 100,
    weight_decay: float = 1e-4,
    augment: Augment | None = None,
    maps: Maps = training_relevance,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> nn.Module:
    """Train a classifier by SGD with momentum 0.9 and a cosine schedule, each batch occluded first.

    The dropout draws from a generator of its own, so that two runs differ by what is hidden and by nothing else.

    Parameters
    ----------
    model : changed in place; its device is where batches go.
    x : (n, C, …), finite.
    y : (n,) int64.
    dropout : None for plain training.
    epochs : passes through the data.
    lr : at the start.
    batch_size : a last, smaller batch of a single input is left out, as batch norm can't use it.
    weight_decay : of all parameters.
    augment : of a batch, before the dropout: batch and generator to batch.
    maps : as in `occlude`.
    generator : of order, augmentation and dropout, on the CPU.
    progress : show a bar.

    Returns
    -------
    The model, in eval mode.
    """
    _check(x, y)
    check_range("epochs", epochs, 1)
    check_range("batch_size", batch_size, 2)
    order = generator or torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    own = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=order)))
    device = hooks.model_device(model)
    optimiser = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in tqdm(range(epochs), disable=not progress, desc="epochs"):
        model.train()
        for rows in torch.randperm(len(x), generator=order).split(batch_size):
            if len(rows) == 1:
                continue
            batch, labels = x[rows].to(device), y[rows].to(device)
            batch = augment(batch, order) if augment else batch
            batch = occlude(model, batch, labels, dropout, maps=maps, generator=own) if dropout else batch
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(batch), labels).backward()
            optimiser.step()
        schedule.step()
    return model.eval()
