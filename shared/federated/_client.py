"""What clients have and do: their data, and the settings of their local training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from shared._checks import check_choice, check_finite, check_range
from shared.federated._state import derive_rng

OPTIMISERS = ("sgd", "adam", "adamw")


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each example.

    Parameters
    ----------
    outputs : logits (B, C).
    targets : classes (B,).

    Returns
    -------
    Losses (B,), in nats.
    """
    return F.cross_entropy(outputs, targets, reduction="none")


@dataclass(frozen=True)
class LocalTraining:
    """What a client does with the model it gets in a round: mini-batch steps, so many of them or `epochs` passes.

    The optimiser's state (momentum, Adam's moments) starts afresh every round, since only models travel.

    Parameters
    ----------
    lr : the learning rate.
    steps, epochs : steps, or passes over the client's examples; one of the two.
    batch_size : None for all of the client's examples in every step.
    optimiser : "sgd", "adam" or "adamw", each as torch computes it.
    momentum : of "sgd".
    betas, eps : of "adam" and "adamw".
    weight_decay : added to the gradient; with "adamw" apart from it.
    proximal : strength μ >= 0 of the clients' own pull μ/2 |w − w_global|² to the model of the round's start, on top of
        what an aggregator (`FedProx`) asks for.
    lr_decay, lr_decay_every : factor on the learning rate, and every how many rounds; 0 for never.
    clip, noise : local differential privacy on what is sent: the round's change of the trained weights is cut to length
        `clip`, then gets Gaussian noise of standard deviation `noise` in every entry. Running statistics are sent as
        they are, with a warning.
    loss : outputs, targets -> one loss per example.

    Raises
    ------
    ValueError
        unless exactly one of `steps` and `epochs` is given, for a number out of range, and for momentum with Adam.
    """

    lr: float
    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    optimiser: str = "sgd"
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    proximal: float = 0.0
    lr_decay: float = 1.0
    lr_decay_every: int = 0
    clip: float | None = None
    noise: float = 0.0
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"steps={self.steps!r} and epochs={self.epochs!r}: give one of the two")
        for name, low in (("steps", 1), ("epochs", 1), ("batch_size", 1), ("clip", 0)):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), low)
        for name in ("lr", "momentum", "weight_decay", "noise", "lr_decay_every", "proximal", "eps"):
            check_range(name, getattr(self, name), 0)
        check_choice("optimiser", self.optimiser, OPTIMISERS)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={self.betas!r} is out of range; accepted: two numbers in [0, 1)")
        if self.momentum and self.optimiser != "sgd":
            raise ValueError(f"momentum={self.momentum} with optimiser={self.optimiser!r}, whose momentum is betas[0]")

    def rate(self, rnd: int) -> float:
        """The learning rate of a round.

        Parameters
        ----------
        rnd : the round, from 0.

        Returns
        -------
        The rate.
        """
        return self.lr * (self.lr_decay ** (rnd // self.lr_decay_every) if self.lr_decay_every else 1.0)

    def batches(self, size: int, generator: np.random.Generator) -> np.ndarray:
        """The order in which a client sees its examples.

        Parameters
        ----------
        size : how many examples it has.
        generator : decides the order.

        Returns
        -------
        Positions of the examples of each step, (steps, batch), -1 where the last batch of a pass is short.
        """
        batch = min(self.batch_size or size, size)
        per_pass = -(-size // batch)
        steps = self.steps or self.epochs * per_pass
        if per_pass == 1:
            return np.broadcast_to(np.arange(size), (steps, size))
        order = np.full((-(-steps // per_pass), per_pass * batch), -1)
        for row in order:
            row[:size] = generator.permutation(size)
        return order.reshape(-1, batch)[:steps]


class Clients:
    """The clients' data. Clients without examples are kept, listed in `empty`, and never take part.

    Parameters
    ----------
    inputs, targets : (N, …) of everyone, finite.
    parts : each client's indices into them.

    Raises
    ------
    ValueError
        for data that doesn't agree, an index out of range, or clients that are all empty.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, parts: Sequence[np.ndarray]) -> None:
        if len(inputs) != len(targets):
            raise ValueError(f"inputs has {len(inputs)} rows and targets {len(targets)}; they must agree")
        if not len(parts):
            raise ValueError("parts is empty; at least one client is needed")
        check_finite("inputs", inputs)
        check_finite("targets", targets)
        self.inputs, self.targets = inputs, targets
        self.parts = [np.asarray(part, dtype=np.int64) for part in parts]
        for client, part in enumerate(self.parts):
            if len(part) and not (0 <= part.min() and part.max() < len(inputs)):
                raise ValueError(f"parts[{client}] has an index outside 0…{len(inputs) - 1}")
        self.sizes = np.array([len(part) for part in self.parts])
        self.filled = np.flatnonzero(self.sizes).tolist()
        self.empty = np.flatnonzero(self.sizes == 0).tolist()
        if not self.filled:
            raise ValueError("parts: no client has any data")

    def __len__(self) -> int:
        return len(self.parts)

    def pooled(self) -> Clients:
        """All clients' examples at one client: central training."""
        return Clients(self.inputs, self.targets, [np.concatenate(self.parts)])

    def schedule(self, client: int, local: LocalTraining, random_state: int, rnd: int) -> np.ndarray:
        """What a client trains on in a round.

        Parameters
        ----------
        client : its id.
        local : what it does in a round.
        random_state, rnd : decide the order, with the client.

        Returns
        -------
        Indices of the examples of each local step, (steps, batch), padded with -1.
        """
        part = self.parts[client]
        at = local.batches(len(part), derive_rng(random_state, "batches", rnd, client))
        return np.where(at >= 0, part[at], -1)


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of examples whose largest logit is the target's.

    Parameters
    ----------
    outputs : logits (B, C).
    targets : classes (B,).

    Returns
    -------
    A number in [0, 1].
    """
    return (outputs.argmax(-1) == targets).float().mean()
