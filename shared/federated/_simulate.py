"""In-process simulation of a federation: all clients of a round as one batched computation where the model allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from shared._checks import check_range
from shared.federated._client import Clients, LocalTrainer, LocalTraining
from shared.federated._state import (
    Params,
    Updates,
    check_state,
    derive_rng,
    no_updates,
    payload_bytes,
    screen_updates,
    stack_states,
    state_of,
)
from shared.federated._strategy import Plan, Strategy

Score = Callable[[Params], Tensor]


@dataclass
class FederatedHistory:
    """What happened in a simulation.

    Parameters
    ----------
    rounds : the evaluated rounds (number of rounds done).
    scores : name -> (evaluations,) of the global model.
    client_scores : name -> (evaluations, K) of the clients' own models, if asked for.
    selected, reported : client ids per round.
    rejected : (round, client, reason).
    model_at : per round, which model each client trained (K,), where clients keep models.
    bytes_up, bytes_down : per round.
    params : the final global state.
    executor : "vmap" or "loop".
    """

    rounds: list[int] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=dict)
    client_scores: dict[str, list[np.ndarray]] = field(default_factory=dict)
    selected: list[list[int]] = field(default_factory=list)
    reported: list[list[int]] = field(default_factory=list)
    rejected: list[tuple[int, int, str]] = field(default_factory=list)
    model_at: list[np.ndarray] = field(default_factory=list)
    bytes_up: list[int] = field(default_factory=list)
    bytes_down: list[int] = field(default_factory=list)
    params: Params = field(default_factory=dict)
    executor: str = ""

    @property
    def transfers(self) -> float:
        """Models sent, up and down together."""
        size = payload_bytes(self.params)
        return (sum(self.bytes_up) + sum(self.bytes_down)) / size


def simulate(
    model: nn.Module,
    clients: Clients,
    strategy: Strategy,
    rounds: int,
    *,
    local: LocalTraining,
    random_state: int = 0,
    evaluate: Mapping[str, Score] | None = None,
    evaluate_every: int = 1,
    score_clients: bool = False,
    dropout: float | Callable[[int, int], bool] = 0.0,
    available: Callable[[int], Sequence[int]] | None = None,
    tamper: Callable[[int, Updates], Updates] | None = None,
    initial: Sequence[Params] | None = None,
    executor: str = "auto",
    progress: bool = False,
) -> FederatedHistory:
    """Train `model` for `rounds` rounds of `strategy` on `clients`.

    Parameters
    ----------
    model : its state is the common start; it isn't changed.
    clients : everyone's data.
    strategy : who takes part and what becomes of the answers.
    rounds : how many, >= 1.
    local : what a client does in a round.
    random_state : decides batches, dropout and noise; the strategy has its own.
    evaluate : name -> function of stacked states (n, …) to one number each (`evaluate_states`), called on the global
        model.
    evaluate_every : how often, in rounds; also at the end.
    score_clients : evaluate every client's model as well.
    dropout : probability that a selected client doesn't answer, or a function of round and client that says so.
    available : the clients that can be reached in a round (all with data).
    tamper : changes what the clients of a round send, for hostile or broken ones.
    initial : another start for each client with data; only for strategies whose clients keep models.
    executor : "vmap", "loop" or "auto"; see `LocalTrainer`.
    progress : show a bar.

    Returns
    -------
    Scores, who took part, and the final state.

    Notes
    -----
    A client that doesn't answer, or whose answer is rejected (NaN), doesn't stop the round; a round without any answer
    leaves the global model as it is. Same arguments, same result: all chance comes from `random_state` and the
    strategy's.
    """
    check_range("rounds", rounds, 1)
    check_range("evaluate_every", evaluate_every, 1)
    if not callable(dropout):
        check_range("dropout", dropout, 0, 1)
    trainer = LocalTrainer(model, local, random_state=random_state, executor=executor)
    start = {key: value.to(clients.inputs.device) for key, value in state_of(model).items()}
    strategy.start(start, clients.filled)
    if initial is not None:
        strategy.start_apart(_initial(initial, start, strategy))
    history = FederatedHistory()
    own_control: dict[int, Params] = {}
    for rnd in tqdm(range(rounds), desc="rounds", disable=not progress, leave=False):
        reachable = clients.filled if available is None else available(rnd)
        plan = strategy.plan(rnd, reachable)
        history.selected.append(plan.clients)
        if strategy.keeps_models:
            history.model_at.append(strategy.model_at.copy())
        answering = [c for c in plan.clients if not _silent(dropout, random_state, rnd, c)]
        updates = _train(trainer, clients, plan, answering, rnd, own_control)
        if tamper is not None and len(updates):
            updates = tamper(rnd, updates)
        updates, rejected = screen_updates(updates)
        history.rejected += [(rnd, client, reason) for client, reason in rejected.items()]
        history.reported.append(updates.clients)
        for client, change in zip(updates.clients, _rows(updates.control)):
            old = own_control.get(client)
            own_control[client] = change if old is None else {k: old[k] + v for k, v in change.items()}
        travelled = strategy.absorb(rnd, updates)
        size = payload_bytes(start) * (2 if plan.control is not None else 1)
        history.bytes_down.append(size * len(plan.clients) * plan.transfers)
        history.bytes_up.append(size * len(answering) * travelled)
        if evaluate and ((rnd + 1) % evaluate_every == 0 or rnd + 1 == rounds):
            _score(history, strategy, evaluate, rnd + 1, score_clients)
    history.params = strategy.consensus()
    history.executor = trainer.executor
    return history


def _silent(dropout: float | Callable[[int, int], bool], random_state: int, rnd: int, client: int) -> bool:
    if callable(dropout):
        return dropout(rnd, client)
    return dropout > 0 and derive_rng(random_state, "dropout", rnd, client).random() < dropout


def _train(
    trainer: LocalTrainer, clients: Clients, plan: Plan, answering: list[int], rnd: int, own: dict[int, Params]
) -> Updates:
    """Train those who will answer; the work of the others would be lost."""
    if not answering:
        return no_updates(plan.anchor, len(clients.filled))
    params = plan.params
    if len(answering) < len(plan.clients):
        rows = torch.tensor([plan.clients.index(c) for c in answering])
        params = {key: value[rows] for key, value in params.items()}
    own_control = None
    if plan.control is not None:
        zero = {key: torch.zeros_like(plan.anchor[key]) for key in trainer.trainable}
        own_control = stack_states([own.get(client, zero) for client in answering])
    return trainer.train(
        clients,
        answering,
        params,
        rnd,
        anchor=plan.anchor,
        proximal=plan.options.get("proximal", 0.0),
        control=plan.control,
        own_control=own_control,
    )


def _rows(stacked: Params) -> list[Params]:
    if not stacked:
        return []
    return [dict(zip(stacked, values)) for values in zip(*(value.unbind(0) for value in stacked.values()))]


def _initial(initial: Sequence[Params], like: Params, strategy: Strategy) -> Params:
    if not strategy.keeps_models:
        raise ValueError("initial needs a strategy whose clients keep models (aggregate_every > 1 or DaisyChain)")
    if len(initial) != len(strategy.clients):
        raise ValueError(f"initial has {len(initial)} states; expected one for each of {len(strategy.clients)} clients")
    for index, state in enumerate(initial):
        check_state(f"initial[{index}]", state, like)
    return stack_states(initial)


def _score(
    history: FederatedHistory, strategy: Strategy, evaluate: Mapping[str, Score], done: int, score_clients: bool
) -> None:
    history.rounds.append(done)
    everyone = {key: value[None] for key, value in strategy.consensus().items()}
    if score_clients and strategy.keeps_models:
        everyone = {key: torch.cat([value, strategy.models[key]]) for key, value in everyone.items()}
    for name, score in evaluate.items():
        values = score(everyone).cpu().numpy()
        history.scores.setdefault(name, []).append(float(values[0]))
        if len(values) > 1:
            history.client_scores.setdefault(name, []).append(values[1:])


def visited_clients(history: FederatedHistory) -> np.ndarray:
    """How many distinct clients each model has been trained at.

    Aggregation isn't counted as a visit: this is the daisy chain alone.

    Parameters
    ----------
    history : of a strategy whose clients keep models.

    Returns
    -------
    Counts (K,).
    """
    if not history.model_at:
        raise ValueError("history has no model_at: the strategy's clients keep no models of their own")
    places = np.stack(history.model_at)  # (T, K): the model at each client
    seen = np.zeros((places.shape[1],) * 2, dtype=bool)
    seen[places, np.arange(places.shape[1])] = True
    return seen.sum(1)
