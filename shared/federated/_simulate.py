"""In-process simulation of a federation: all clients of a round as one batched computation where the model allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from shared._checks import check_range
from shared.federated._client import Clients, LocalTraining
from shared.federated._evaluate import ClientEvaluation
from shared.federated._job import Job
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
    untied,
)
from shared.federated._strategy import Strategy
from shared.federated._trainer import LocalTrainer

Score = Callable[[Params], Tensor]


@dataclass
class FederatedHistory:
    """What happened in a simulation.

    Parameters
    ----------
    rounds : the evaluated rounds (number of rounds done).
    scores : name -> (evaluations,) of the global model.
    client_scores : name -> (evaluations, K) of the clients' own models, if asked for.
    on_clients : name -> (evaluations, K) at the clients, on their own data, if asked for.
    weighted : name -> (evaluations,), their mean by numbers of examples.
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
    on_clients: dict[str, list[np.ndarray]] = field(default_factory=dict)
    weighted: dict[str, list[float]] = field(default_factory=dict)
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


@dataclass
class Federation:
    """One of the federations that `simulate_many` runs side by side; the fields are arguments of `simulate`.

    Parameters
    ----------
    model : its state is the common start.
    clients : everyone's data.
    strategy : who takes part and what becomes of the answers; an object of its own.
    random_state : decides batches, dropout and noise.
    evaluate : name -> function of stacked states to one number each.
    dropout : probability that a selected client doesn't answer, or a function of round and client.
    available : the clients that can be reached in a round.
    tamper : changes what the clients of a round send.
    initial : another start for each client with data.
    on_clients : name -> evaluation at the clients.
    """

    model: nn.Module
    clients: Clients
    strategy: Strategy
    random_state: int = 0
    evaluate: Mapping[str, Score] | None = None
    dropout: float | Callable[[int, int], bool] = 0.0
    available: Callable[[int], Sequence[int]] | None = None
    tamper: Callable[[int, Updates], Updates] | None = None
    initial: Sequence[Params] | None = None
    on_clients: Mapping[str, ClientEvaluation] | None = None


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
    on_clients: Mapping[str, ClientEvaluation] | None = None,
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
    on_clients : name -> `ClientEvaluation`: scores at every client, of the global model, or of the client's own where
        the strategy keeps models (each on that client's data).
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
    one = Federation(model, clients, strategy, random_state, evaluate, dropout, available, tamper, initial, on_clients)
    return simulate_many(
        [one],
        rounds,
        local=local,
        evaluate_every=evaluate_every,
        score_clients=score_clients,
        executor=executor,
        progress=progress,
    )[0]


def simulate_many(
    federations: Sequence[Federation],
    rounds: int,
    *,
    local: LocalTraining,
    evaluate_every: int = 1,
    score_clients: bool = False,
    executor: str = "auto",
    progress: bool = False,
) -> list[FederatedHistory]:
    """Train several federations, say seeds and methods, as one batched computation: what `simulate` gives for each.

    Small networks spend most of their time between operations; sixty federations of five small clients take about as
    long side by side as two of them alone.

    Parameters
    ----------
    federations : at least one; their models have the same architecture, their data the same shape, their strategies are
        objects of their own.
    rounds : how many, >= 1.
    local : what a client does in a round, in all of them.
    evaluate_every : how often, in rounds; also at the end. Federations with the same `evaluate` are scored together.
    score_clients : evaluate every client's model as well.
    executor : "vmap", "loop" or "auto"; see `LocalTrainer`.
    progress : show a bar.

    Returns
    -------
    One history for each, up to rounding that of `simulate`.

    Raises
    ------
    ValueError
        for models that don't agree, or a strategy that two federations share.
    """
    check_range("rounds", rounds, 1)
    check_range("evaluate_every", evaluate_every, 1)
    if not federations:
        raise ValueError("federations is empty; at least one is needed")
    if len({id(federation.strategy) for federation in federations}) < len(federations):
        raise ValueError("federations share a strategy; give each an object of its own, since a strategy keeps state")
    trainer = LocalTrainer(federations[0].model, local, executor=executor)
    runs = [_Run(f"federations[{index}]", given, trainer) for index, given in enumerate(federations)]
    for rnd in tqdm(range(rounds), desc="rounds", disable=not progress, leave=False):
        jobs = [run.ask(rnd) for run in runs]
        asked = [job for job in jobs if job is not None]
        answers = iter(trainer.train_jobs(asked, rnd) if asked else ())
        for run, job in zip(runs, jobs):
            run.tell(rnd, None if job is None else next(answers))
        if (rnd + 1) % evaluate_every == 0 or rnd + 1 == rounds:
            _score(runs, rnd + 1, score_clients)
            for run in runs:
                run.score_on_clients(rnd + 1)
    return [run.finish() for run in runs]


class _Run:
    """One federation on its way through the rounds."""

    def __init__(self, name: str, given: Federation, trainer: LocalTrainer) -> None:
        if not callable(given.dropout):
            check_range("dropout", given.dropout, 0, 1)
        self.given, self.trainer = given, trainer
        self.start = {key: value.to(given.clients.inputs.device) for key, value in state_of(given.model).items()}
        check_state(f"{name}.model", self.start, state_of(trainer.model))
        given.strategy.start(self.start, given.clients.filled)
        if given.initial is not None:
            given.strategy.start_apart(_initial(given.initial, self.start, given.strategy, trainer.tied))
        self.history = FederatedHistory()
        self._control: dict[int, Params] = {}

    def ask(self, rnd: int) -> Job | None:
        """What the clients that will answer have to do; None if nobody will."""
        given, strategy = self.given, self.given.strategy
        reachable = given.clients.filled if given.available is None else given.available(rnd)
        plan = self.plan = strategy.plan(rnd, reachable)
        self.history.selected.append(plan.clients)
        if strategy.keeps_models:
            self.history.model_at.append(strategy.model_at.copy())
        self.answering = [c for c in plan.clients if not _silent(given.dropout, given.random_state, rnd, c)]
        if not self.answering:
            return None
        params = plan.params
        if len(self.answering) < len(plan.clients):  # the work of the others would be lost
            rows = torch.tensor([plan.clients.index(c) for c in self.answering])
            params = {key: value[rows] for key, value in params.items()}
        own_control = None
        if plan.control is not None:
            zero = {key: torch.zeros_like(plan.anchor[key]) for key in self.trainer.trainable}
            own_control = stack_states([self._control.get(client, zero) for client in self.answering])
        return Job(
            given.clients,
            self.answering,
            params,
            plan.anchor,
            plan.options,
            plan.control,
            own_control,
            given.random_state,
        )

    def tell(self, rnd: int, updates: Updates | None) -> None:
        """Take in the answers."""
        history, strategy = self.history, self.given.strategy
        if updates is None:
            updates = no_updates(self.plan.anchor, len(self.given.clients.filled))
        if self.given.tamper is not None and len(updates):
            updates = self.given.tamper(rnd, updates)
        updates, rejected = screen_updates(updates)
        history.rejected += [(rnd, client, reason) for client, reason in rejected.items()]
        history.reported.append(updates.clients)
        for client, change in zip(updates.clients, _rows(updates.control)):
            old = self._control.get(client)
            self._control[client] = change if old is None else {k: old[k] + v for k, v in change.items()}
        travelled = strategy.absorb(rnd, updates)
        size = payload_bytes(self.start) * (2 if self.plan.control is not None else 1)
        history.bytes_down.append(size * len(self.plan.clients) * self.plan.transfers)
        history.bytes_up.append(size * len(self.answering) * travelled)

    def score_on_clients(self, done: int) -> None:
        """Scores at the clients, of the model they would use."""
        for name, evaluation in (self.given.on_clients or {}).items():
            strategy, history = self.given.strategy, self.history
            own = strategy.keeps_models and evaluation.clients.filled == self.given.clients.filled
            scores = evaluation(strategy.models if own else {k: v[None] for k, v in strategy.consensus().items()})
            history.on_clients.setdefault(name, []).append(scores.numpy())
            history.weighted.setdefault(name, []).append(evaluation.weighted(scores))
            if not self.given.evaluate and history.rounds[-1:] != [done]:
                history.rounds.append(done)

    def finish(self) -> FederatedHistory:
        """The history with the final state, under all names of tied weights."""
        found = self.given.strategy.consensus()
        self.history.params = found | {
            name: found[first] for name, first in self.trainer.tied.items() if first in found
        }
        self.history.executor = self.trainer.executor
        return self.history


def _silent(dropout: float | Callable[[int, int], bool], random_state: int, rnd: int, client: int) -> bool:
    if callable(dropout):
        return dropout(rnd, client)
    return dropout > 0 and derive_rng(random_state, "dropout", rnd, client).random() < dropout


def _rows(stacked: Params) -> list[Params]:
    if not stacked:
        return []
    return [dict(zip(stacked, values)) for values in zip(*(value.unbind(0) for value in stacked.values()))]


def _initial(initial: Sequence[Params], like: Params, strategy: Strategy, tied: Mapping[str, str]) -> Params:
    if not strategy.keeps_models:
        raise ValueError("initial needs a strategy whose clients keep models (aggregate_every > 1 or DaisyChain)")
    if len(initial) != len(strategy.clients):
        raise ValueError(f"initial has {len(initial)} states; expected one for each of {len(strategy.clients)} clients")
    initial = [untied(state, tied) for state in initial]
    for index, state in enumerate(initial):
        check_state(f"initial[{index}]", state, like)
    return stack_states(initial)


def _score(runs: Sequence[_Run], done: int, score_clients: bool) -> None:
    """Score the global models, and the clients' if wanted; those with the same scoring function in one call."""
    groups: dict[int, list[tuple[_Run, str, Score, Params]]] = {}
    for run in runs:
        if not run.given.evaluate:
            continue
        run.history.rounds.append(done)
        strategy = run.given.strategy
        everyone = {key: value[None] for key, value in strategy.consensus().items()}
        if score_clients and strategy.keeps_models:
            everyone = {key: torch.cat([value, strategy.models[key]]) for key, value in everyone.items()}
        for name, score in run.given.evaluate.items():
            groups.setdefault(id(score), []).append((run, name, score, everyone))
    for group in groups.values():
        stacked = {key: torch.cat([everyone[key] for *_, everyone in group]) for key in group[0][3]}
        values = group[0][2](stacked).cpu().numpy()
        for run, name, _, everyone in group:
            mine, values = np.split(values, [len(next(iter(everyone.values())))])
            run.history.scores.setdefault(name, []).append(float(mine[0]))
            if len(mine) > 1:
                run.history.client_scores.setdefault(name, []).append(mine[1:])


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
