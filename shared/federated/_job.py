"""What a round asks of clients, as rows of one batched computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from shared.federated._client import Clients
from shared.federated._state import Params


@dataclass
class Job:
    """What one federation asks of its clients in a round.

    Parameters
    ----------
    clients : everyone's data.
    ids : who trains.
    start : the model of each of them, stacked (n, …).
    anchor : the global state.
    options : "proximal" (strength of the pull to the anchor), "calibration" (τ of FedLC).
    control, own_control : SCAFFOLD's c (unstacked) and the clients' c_k (stacked).
    random_state : decides batches, dropout layers and noise.
    """

    clients: Clients
    ids: list[int]
    start: Params
    anchor: Params | None = None
    options: Mapping[str, float] = field(default_factory=dict)
    control: Params | None = None
    own_control: Params | None = None
    random_state: int = 0


def can_vmap(model: nn.Module) -> bool:
    """Whether the clients' models can run as one batch: nothing that looks across the batch, no dropout, no LSTM.

    Batches are filled up to one length, which a batch norm would see, with running statistics or without.
    """
    apart = (nn.modules.batchnorm._BatchNorm, nn.RNNBase)
    drops, norms = nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase
    return not any(
        isinstance(m, apart) or (isinstance(m, norms) and m.track_running_stats) or (isinstance(m, drops) and m.p > 0)
        for m in model.modules()
    )


@dataclass
class Rows:
    """The clients of all jobs as rows, those with most steps first."""

    index: Tensor  # (n, steps, batch) into the data
    weight: Tensor  # (n, steps, batch) of the mean loss
    steps: np.ndarray  # (n,) descending
    order: Tensor  # row -> position among the jobs' clients
    names: list[int]  # client of each row
    seeds: list[int]  # random_state of each row


@dataclass
class Extras:
    """What enters the gradients or the loss of each row besides the data."""

    pull: tuple[Tensor, Params] | None = None  # strengths (n,), anchors (n, …)
    correction: Params | None = None
    margin: Tensor | None = None  # (n, C)

    def rows(self, which: Tensor | slice) -> Extras:
        def some(state: Params) -> Params:
            return {key: value[which] for key, value in state.items()}

        return Extras(
            None if self.pull is None else (self.pull[0][which], some(self.pull[1])),
            None if self.correction is None else some(self.correction),
            None if self.margin is None else self.margin[which],
        )


def pad(schedules: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Indices and weights of the mean loss, (n, steps, batch) each, of n schedules."""
    steps, batch = max(len(s) for s in schedules), max(s.shape[1] for s in schedules)
    index = np.full((len(schedules), steps, batch), -1)
    for row, schedule in zip(index, schedules):
        row[: len(schedule), : schedule.shape[1]] = schedule
    real = index >= 0
    weight = real / np.maximum(real.sum(2, keepdims=True), 1)
    return torch.as_tensor(np.maximum(index, 0)), torch.as_tensor(weight, dtype=torch.float32)
