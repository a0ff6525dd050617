"""The server: which client gets which model in a round, and what becomes of their answers.

A strategy is all that an executor knows, be it `simulate` or the Flower adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from shared._checks import check_range
from shared.federated._aggregate import Aggregator, FedAvg, State
from shared.federated._select import RandomSelector, Selector
from shared.federated._state import Params, Updates, derive_rng, no_updates, repeat, take_states


@dataclass
class Plan:
    """One round.

    Parameters
    ----------
    clients : who takes part.
    params : the model of each, stacked.
    anchor : the global state.
    options : what clients must know besides.
    control : SCAFFOLD's control variate.
    transfers : whether models travel before this round; if not, a client goes on with the model it has.
    """

    clients: list[int]
    params: Params
    anchor: Params
    options: dict[str, float] = field(default_factory=dict)
    control: Params | None = None
    transfers: bool = True


class Strategy:
    """Broadcast the global model to `per_round` selected clients, train, aggregate.

    Parameters
    ----------
    aggregator : merges the answers (FedAvg).
    selector : chooses the clients (at random).
    per_round : how many take part; None for all.
    aggregate_every : with b > 1 all clients take part and keep their own models in between; aggregated every b rounds.
    random_state : of the selection and permutations.
    """

    def __init__(
        self,
        *,
        aggregator: Aggregator | None = None,
        selector: Selector | None = None,
        per_round: int | None = None,
        aggregate_every: int = 1,
        random_state: int = 0,
    ) -> None:
        check_range("aggregate_every", aggregate_every, 1)
        if per_round is not None:
            check_range("per_round", per_round, 1)
            if aggregate_every > 1:
                raise ValueError(f"per_round={per_round} with aggregate_every={aggregate_every}: all take part if > 1")
        self.aggregator = aggregator or FedAvg()
        self.selector = selector or RandomSelector()
        self.per_round = per_round
        self.aggregate_every = aggregate_every
        self.random_state = random_state
        if aggregate_every > 1 and "scaffold" in self.aggregator.client_options():
            raise ValueError("aggregate_every must be 1 with SCAFFOLD; give the clients more local steps instead")
        self.params: Params = {}

    @property
    def keeps_models(self) -> bool:
        """Whether clients have models of their own between rounds."""
        return self.aggregate_every > 1

    def start(self, params: Params, clients: Sequence[int]) -> None:
        """Begin; forgets earlier runs.

        Parameters
        ----------
        params : the common start.
        clients : ids of all clients that have data.
        """
        self.params = {key: value.detach().clone() for key, value in params.items()}
        self.clients = list(clients)
        self.state: State = {}
        self.models = repeat(self.params, len(self.clients))
        self.model_at = np.arange(len(self.clients))  # which of the models each client holds
        self._fresh = True  # models travel before the first round

    def start_apart(self, models: Params) -> None:
        """Give every client another initial model, after `start`.

        Parameters
        ----------
        models : stacked (K, …).
        """
        self.models = dict(models)

    def plan(self, rnd: int, available: Sequence[int]) -> Plan:
        """Who trains from which model.

        Parameters
        ----------
        rnd : the round, from 0.
        available : ids of those that can be reached.

        Returns
        -------
        The plan of the round.
        """
        available = sorted(set(available) & set(self.clients))
        options = self.aggregator.client_options()
        if self.keeps_models:
            rows = [self.clients.index(c) for c in available] if len(available) < len(self.clients) else None
            models = self.models if rows is None else take_states(self.models, rows)
            return Plan(available, models, self.params, options, transfers=self._fresh)
        count = len(available) if self.per_round is None else self.per_round
        everyone = count >= len(available)
        chosen = (
            available
            if everyone
            else self.selector.select(available, count, derive_rng(self.random_state, "select", rnd))
        )
        control = None
        if "scaffold" in options:
            control = self.state.get("control") or {k: v.new_zeros(v.shape) for k, v in self.params.items()}
        return Plan(list(chosen), repeat(self.params, len(chosen)), self.params, options, control)

    def absorb(self, rnd: int, updates: Updates) -> bool:
        """Take in the answers of a round. Without any, nothing changes.

        Parameters
        ----------
        rnd : the round, from 0.
        updates : the answers.

        Returns
        -------
        Whether the models travelled.
        """
        if hasattr(self.selector, "observe") and len(updates):
            self.selector.observe(updates)
        if not self.keeps_models:
            if len(updates):
                self.params, self.state = self.aggregator.aggregate(self.params, updates, self.state)
            return True
        rows = self._store(updates)
        self._fresh = self._travel(rnd, updates, rows)
        return self._fresh

    def _store(self, updates: Updates) -> np.ndarray:
        if updates.clients == self.clients:
            self.models = updates.params
            return np.arange(len(self.clients))
        rows = np.array([self.clients.index(c) for c in updates.clients], dtype=int)
        self.models = {key: value.clone() for key, value in self.models.items()}
        for key, value in updates.params.items():
            self.models[key][rows] = value
        return rows

    def _travel(self, rnd: int, updates: Updates, rows: np.ndarray) -> bool:
        """What happens to the clients' models after round `rnd`: here, aggregation every b rounds."""
        if rnd % self.aggregate_every != self.aggregate_every - 1:
            return False
        if len(rows):
            self.params, self.state = self.aggregator.aggregate(self.params, updates, self.state)
            self.models = repeat(self.params, len(self.clients))
        return True

    def consensus(self) -> Params:
        """The global model if training ended now: the aggregate of the clients' models where they have their own."""
        if not self.keeps_models:
            return self.params
        sizes = no_updates(self.params, 0).num_examples.new_ones(len(self.clients))
        everyone = Updates(self.clients, self.models, sizes, sizes, {}, len(self.clients))
        return self.aggregator.aggregate(self.params, everyone, dict(self.state))[0]


class DaisyChain(Strategy):
    """Federated daisy-chaining (FedDC), Kamp et al. 2023, algorithm 1.

    After every `daisy_every`-th round (d) the models go to a random permutation of the clients, as they are; after
    every `aggregate_every`-th (b; None: never) they are aggregated, by the plain mean unless told otherwise. Both are
    tested independently, the permutation first. Among clients that answered only.

    Parameters
    ----------
    daisy_every : d, >= 1.
    aggregate_every : b, or None.
    aggregator : merges the models (the plain mean).
    fixed_permutation : the same permutation every time (an ablation).
    route : number of models n, generator -> permutation (n,): which model each client gets next; uniformly random
        unless given. Rings, stars and pairs of neighbours are routes.
    random_state : of the permutations.
    """

    def __init__(
        self,
        *,
        daisy_every: int = 1,
        aggregate_every: int | None = 10,
        aggregator: Aggregator | None = None,
        fixed_permutation: bool = False,
        route: Callable[[int, np.random.Generator], np.ndarray] | None = None,
        random_state: int = 0,
    ) -> None:
        check_range("daisy_every", daisy_every, 1)
        never = 2**62
        super().__init__(
            aggregator=aggregator or FedAvg(weighted=False),
            aggregate_every=never if aggregate_every is None else aggregate_every,
            random_state=random_state,
        )
        self.daisy_every, self.fixed_permutation, self.route = daisy_every, fixed_permutation, route

    @property
    def keeps_models(self) -> bool:
        return True

    def _order(self, count: int, generator: np.random.Generator) -> np.ndarray:
        if self.route is None:
            return generator.permutation(count)
        order = np.asarray(self.route(count, generator))
        if sorted(order.tolist()) != list(range(count)):
            raise ValueError(f"route({count}, generator) gave {order}; expected a permutation of 0…{count - 1}")
        return order

    def _travel(self, rnd: int, updates: Updates, rows: np.ndarray) -> bool:
        travelled = False
        if rnd % self.daisy_every == self.daisy_every - 1 and len(rows):
            path = () if self.fixed_permutation else (rnd,)
            order = self._order(len(rows), derive_rng(self.random_state, "daisy", *path))
            whence = np.arange(len(self.clients))
            whence[rows] = rows[order]
            self.models = take_states(self.models, whence)
            self.model_at = self.model_at[whence]
            travelled = True
        return super()._travel(rnd, updates, rows) or travelled
