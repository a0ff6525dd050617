"""Scores of many states of one model on the same data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_leaves

from shared._checks import check_finite, check_range, copied
from shared.federated._client import Clients
from shared.federated._state import Params, take_states, tied_names, untied


def vmap_refuses(error: RuntimeError) -> bool:
    """Whether an error says that vmap can't run this model, not that the model failed or memory ran out."""
    text = str(error)
    return not isinstance(error, torch.OutOfMemoryError) and ("vmap" in text or "atching rule" in text)


def evaluate_states(
    model: nn.Module,
    metric: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    *,
    batch_size: int = 4096,
    memory: int = 2**28,
) -> Callable[[Params], Tensor]:
    """A function that scores stacked states on the same data.

    Parameters
    ----------
    model : the architecture; models that vmap can't run (LSTMs, control flow that depends on data) are run one state
        after another.
    metric : outputs, targets -> a number.
    inputs, targets : (N, …), finite.
    batch_size : so many examples at a time, or fewer where one state's layers would exceed `memory`.
    memory : bytes that the outputs of all layers may take, which says how many states are run at a time.

    Returns
    -------
    A function from states (n, …) to `metric(outputs, targets)` of each, (n,).

    Raises
    ------
    ValueError
        for data that isn't finite or doesn't agree.
    """
    check_range("batch_size", batch_size, 1)
    check_range("memory", memory, 1)
    check_finite("inputs", inputs)
    check_finite("targets", targets)
    if inputs.shape[:1] != targets.shape[:1]:
        raise ValueError(f"inputs has shape {tuple(inputs.shape)}, targets {tuple(targets.shape)}; lengths must agree")
    scorer = _Scorer(model)

    @torch.no_grad()
    def score(stacked: Params) -> Tensor:
        stacked = untied(stacked, scorer.tied)
        each = scorer.bytes_of(take_states(stacked, 0), inputs[:1])
        rows = max(1, min(batch_size, len(inputs), memory // each))
        values = []
        for states in _chunks(stacked, max(1, memory // (rows * each))):
            outputs = torch.cat([scorer.outputs(states, chunk) for chunk in inputs.split(rows)], 1)
            values += [metric(own, targets) for own in outputs]
        return torch.stack(values)

    return score


class ClientEvaluation:
    """Scores of a model at every client, on the client's own data: what federated evaluation reports.

    Parameters
    ----------
    model : the architecture.
    metric : outputs, targets -> a number, a mean over examples where `weighted` is to be the one over everyone's.
    clients : what each evaluates on, say data held out from its training.
    batch_size, memory : as for `evaluate_states`.
    """

    def __init__(
        self,
        model: nn.Module,
        metric: Callable[[Tensor, Tensor], Tensor],
        clients: Clients,
        *,
        batch_size: int = 4096,
        memory: int = 2**28,
    ) -> None:
        check_range("batch_size", batch_size, 1)
        check_range("memory", memory, 1)
        self.metric, self.clients = metric, clients
        self.batch_size, self.memory = batch_size, memory
        self._scorer = _Scorer(model)

    @torch.no_grad()
    def __call__(self, states: Params) -> Tensor:
        """Each client's score.

        Parameters
        ----------
        states : stacked; one model (1, …) for all, or one for each client with data, in order.

        Returns
        -------
        (K,) float64; NaN for clients without data.
        """
        states = untied(states, self._scorer.tied)
        count, filled = len(next(iter(states.values()))), self.clients.filled
        if count not in (1, len(filled)):
            raise ValueError(f"states holds {count} models; expected 1, or one for each of {len(filled)} clients")
        found = torch.full((len(self.clients),), torch.nan, dtype=torch.float64)
        for row, client in enumerate(filled):
            part = torch.as_tensor(self.clients.parts[client], device=self.clients.inputs.device)
            one = {key: value[row % count][None] for key, value in states.items()}
            found[client] = float(self.metric(self._outputs(one, part), self.clients.targets[part]))
        return found

    def _outputs(self, one: Params, part: Tensor) -> Tensor:
        inputs = self.clients.inputs
        each = self._scorer.bytes_of(take_states(one, 0), inputs[part[:1]])
        rows = max(1, min(self.batch_size, self.memory // each))
        return torch.cat([self._scorer.outputs(one, inputs[some])[0] for some in part.split(rows)])

    def weighted(self, scores: Tensor) -> float:
        """Mean over clients, each by its number of examples.

        Parameters
        ----------
        scores : (K,), as the call gives them.

        Returns
        -------
        One number.
        """
        sizes = torch.as_tensor(self.clients.sizes, dtype=torch.float64)
        filled = sizes > 0
        return float((scores[filled] * sizes[filled]).sum() / sizes.sum())


def _chunks(stacked: Params, size: int) -> Iterator[Params]:
    count = len(next(iter(stacked.values())))
    for begin in range(0, count, size):
        yield {key: value[begin : begin + size] for key, value in stacked.items()}


class _Scorer:
    """The outputs of stacked states, as one batch where vmap can."""

    def __init__(self, model: nn.Module) -> None:
        self.template = copied("model", model).eval()
        self.tied = tied_names(model)
        self._batched = not any(isinstance(module, nn.RNNBase) for module in model.modules())
        self._proven = False
        self._bytes: int | None = None

    def bytes_of(self, state: Params, example: Tensor) -> int:
        """Bytes of all layers' outputs for one example; counted once."""
        if self._bytes is None:
            sizes: list[int] = []

            def count(module: nn.Module, given: tuple, made: object) -> None:
                sizes.append(sum(t.numel() * t.element_size() for t in tree_leaves(made) if isinstance(t, Tensor)))

            leaves = [module for module in self.template.modules() if not any(True for _ in module.children())]
            handles = [module.register_forward_hook(count) for module in leaves]
            out = functional_call(self.template, state, (example,))
            for handle in handles:
                handle.remove()
            self._bytes = max(sum(sizes), out.numel() * out.element_size(), 1)
        return self._bytes

    def outputs(self, states: Params, inputs: Tensor) -> Tensor:
        """(n, B, …) of n states on the same inputs."""
        if self._batched:
            try:
                made = vmap(self._call, in_dims=(0, None))(states, inputs)
                self._proven = True
                return made
            except RuntimeError as error:
                if self._proven or not vmap_refuses(error):
                    raise
                self._batched = False
        count = len(next(iter(states.values())))
        return torch.stack([self._call(take_states(states, row), inputs) for row in range(count)])

    def _call(self, state: Params, inputs: Tensor) -> Tensor:
        return functional_call(self.template, state, (inputs,))
